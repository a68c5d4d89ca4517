"""predict_gradients as an optax transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

FORECASTERS = {
  "momentum": optax_predict.forecasters.momentum,
  "secant": functools.partial(optax_predict.forecasters.secant, memory=3),
}
HORIZONS = {
  "fixed": optax_predict.horizons.fixed,
  "adaptive": optax_predict.horizons.adaptive,
}


@pytest.fixture(params=FORECASTERS)
def forecaster(request):
  return FORECASTERS[request.param]()


@pytest.fixture(params=HORIZONS)
def horizon(request):
  return HORIZONS[request.param]()


def loss_fn(params):
  x = helpers_ravel(params)
  return 0.5 * jnp.sum(jnp.linspace(0.05, 1.0, x.size) * x**2)


def helpers_ravel(params):
  return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(params)])


def start(dtype="float32"):
  return helpers.nested(np.linspace(-2, 3, 7), dtype)


def run(tx, params, steps, loss=loss_fn):
  """Plain optax loop: the true gradient where it is due."""

  @jax.jit
  def step(params, state):
    gradients = helpers.skipped(jax.grad(loss)(params), state)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  state = tx.init(params)
  before = helpers.types(jax.jit(tx.init)(params))
  for _ in range(steps):
    params, state = step(params, state)
    assert helpers.types(state) == before
  return params, state, step


def test_state_keeps_its_types_and_compiles_once(forecaster, horizon):
  tx = optax.chain(
    optax_predict.predict_gradients(forecaster, horizon, correction_weight=0.5),
    optax.adam(0.05),
  )
  params, state, step = run(tx, start(), 40)
  assert step._cache_size() == 1
  helpers.assert_finite((params, state))
  assert float(loss_fn(params)) < float(loss_fn(start()))
  stats = optax_predict.get_stats(state)
  assert int(stats.total_steps) == 40
  assert int(stats.predicted_steps) > 0


@pytest.mark.parametrize("count", [1, 3, 4, 9])
@pytest.mark.parametrize("name", ["momentum", "trend"])
def test_several_steps_in_one_pass_are_those_steps(name, count):
  """Forecasters that need no look ahead take four at a time."""
  forecaster = getattr(optax_predict.forecasters, name)()
  assert not forecaster.needs_look_ahead
  horizon = optax_predict.horizons.fixed(count, -1.0)

  def losses(forecaster):
    tx = optax.chain(
      optax_predict.predict_gradients(forecaster, horizon),
      optax.adam(optax.cosine_decay_schedule(0.1, 50)),
    )

    def step(carry, _):
      params, state = carry
      loss, gradients = jax.value_and_grad(loss_fn)(params)
      updates, state = tx.update(gradients, state, params)
      params = optax.apply_updates(params, updates)
      return optax_predict.fast_forward(tx, params, state), loss

    carry = start(), tx.init(start())
    (_, state), found = jax.lax.scan(step, carry, None, length=4)
    return found, optax_predict.get_stats(state)

  found, stats = losses(forecaster)
  one_by_one, _ = losses(forecaster._replace(needs_look_ahead=True))
  assert int(stats.total_steps) == 4 + 3 * count
  np.testing.assert_allclose(found, one_by_one, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_of_parameters_is_kept(forecaster, horizon, dtype):
  with helpers.x64(dtype == "float64"):
    tx = optax.chain(
      optax_predict.predict_gradients(forecaster, horizon), optax.sgd(0.5)
    )
    params, state, _ = run(tx, start(dtype), 20)
    for leaf in jax.tree.leaves(params):
      assert leaf.dtype == jnp.dtype(dtype)
    helpers.assert_finite((params, state))
    assert int(optax_predict.get_stats(state).predicted_steps) > 0


def test_gradients_of_another_dtype_keep_theirs(forecaster, horizon):
  tx = optax_predict.predict_gradients(forecaster, horizon)
  params = start()
  state = tx.init(params)
  for i in range(12):
    gradients = jax.tree.map(
      lambda x, i=i: (x * 0.9**i).astype(jnp.bfloat16), params
    )
    gradients = helpers.skipped(gradients, state)
    updates, state = tx.update(gradients, state, params)
    for leaf in jax.tree.leaves(updates):
      assert leaf.dtype == jnp.bfloat16
  assert int(optax_predict.get_stats(state).predicted_steps) > 0


def test_true_gradients_pass_unchanged(forecaster):
  tx = optax_predict.predict_gradients(
    forecaster, optax_predict.horizons.fixed(prediction_steps=3)
  )
  params = start()
  state = tx.init(params)
  for i in range(12):
    due = bool(optax_predict.should_compute_full(state))
    gradients = jax.tree.map(lambda x, i=i: x * 0.9**i, params)
    gradients = helpers.skipped(gradients, state)
    updates, state = tx.update(gradients, state, params)
    if due:
      jax.tree.map(np.testing.assert_array_equal, updates, gradients)


def test_parameters_may_be_empty(forecaster, horizon):
  tx = optax_predict.predict_gradients(forecaster, horizon)
  for params in ({}, {"a": None}, {"a": jnp.zeros((0,))}):
    state = tx.init(params)
    for _ in range(4):
      updates, state = tx.update(params, state, params)
      assert jax.tree.structure(updates) == jax.tree.structure(params)


def test_a_gradient_that_nobody_asked_for_is_used(forecaster, horizon):
  """In the middle of a window: it is a true gradient, and ends it."""
  tx = optax_predict.predict_gradients(forecaster, horizon)
  params = {"a": jnp.ones(3)}
  state = tx.init(params)
  used = 0
  for i in range(30):
    is_due = bool(optax_predict.should_compute_full(state))
    before = optax_predict.get_stats(state)
    is_given = is_due or i % 7 == 3
    gradients = {"a": jnp.full(3, 1.0 if is_given else 0.0)}
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(
      params, jax.tree.map(lambda u: -0.01 * u, updates)
    )
    after = optax_predict.get_stats(state)
    assert int(after.computed_steps - before.computed_steps) == int(is_given)
    assert int(after.total_steps - before.total_steps) == 1
    if is_given and not is_due:
      np.testing.assert_array_equal(updates["a"], gradients["a"])
      used += 1
  assert used > 0
  assert int(optax_predict.get_stats(state).predicted_steps) > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_bad_gradient_passes_but_never_enters_the_history(
  forecaster, horizon, bad
):
  tx = optax_predict.predict_gradients(forecaster, horizon)
  params = {"a": jnp.linspace(1.0, 2.0, 4)}
  state, update = tx.init(params), jax.jit(tx.update)
  seen = 0
  # Windows are long where the gradient is this simple.
  for _ in range(1500):
    if seen == 2:
      break
    due = bool(optax_predict.should_compute_full(state))
    gradients = {"a": params["a"] * 0.5}
    computed = int(optax_predict.get_stats(state).computed_steps)
    is_bad = due and computed % 4 == 3
    if is_bad:
      gradients["a"] = gradients["a"].at[2].set(bad)
      seen += 1
    gradients = helpers.skipped(gradients, state)
    history = state.gradient_history
    updates, state = update(gradients, state, params)
    if due:
      np.testing.assert_array_equal(updates["a"], gradients["a"])
    if is_bad:
      jax.tree.map(
        np.testing.assert_array_equal, state.gradient_history, history
      )
      assert bool(optax_predict.should_compute_full(state))
    helpers.assert_finite(state)
    if np.all(np.abs(updates["a"]) < 1e10):
      params = optax.apply_updates(
        params, jax.tree.map(lambda u: -0.1 * u, updates)
      )
  assert seen > 1
  assert int(optax_predict.get_stats(state).predicted_steps) > 0


def test_non_finite_forecast_is_never_emitted(horizon):
  def predict(history, motion):
    del motion
    return optax_predict.Forecast(jax.tree.map(lambda g: g * jnp.nan, history))

  broken = optax_predict.Forecaster(
    init=lambda params, dtype: jax.tree.map(jnp.zeros_like, params),
    observe=lambda gradients, history, motion, forecast: gradients,
    predict=predict,
    history_size=2,
  )
  predictor = optax_predict.gradient_predictor(broken, horizon)
  state = predictor.init(jnp.ones(3))
  gradients, state = predictor.predict_gradient(state, jnp.ones(3))
  np.testing.assert_array_equal(gradients, np.zeros(3))
  assert bool(predictor.should_compute_full(state))
  state = predictor.record_gradient(jnp.ones(3), state, jnp.ones(3))
  state = predictor.record_gradient(jnp.ones(3), state, jnp.ones(3))
  helpers.assert_finite(state)
  assert bool(predictor.should_compute_full(state))


def test_where_the_origin_is_does_not_matter():
  """Nor does a first update of zero, as of a rate that warms up, end windows."""
  at_start, elsewhere = predicted_from(-1.0), predicted_from(5.0)
  assert at_start == elsewhere
  assert at_start[-1] > at_start[1] > 0


def predicted_from(origin):
  """Predicted steps after each call; the start is ones from a minimum."""
  rate = optax.linear_schedule(0.0, 0.5, 10)
  tx = optax.chain(optax_predict.predict_gradients(), optax.sgd(rate))
  scales = jnp.array([0.1, 0.5, 1.0])

  @jax.jit
  def step(x, state):
    updates, state = tx.update(scales * (x - origin), state, x)
    x = optax.apply_updates(x, updates)
    return optax_predict.fast_forward(tx, x, state)

  x = jnp.ones(3) + origin
  state, predicted = tx.init(x), []
  for _ in range(4):
    x, state = step(x, state)
    predicted.append(int(optax_predict.get_stats(state).predicted_steps))
  return predicted


def test_the_first_gradient_may_be_taken_anywhere():
  """There is no distance to it, though its square would overflow."""
  predictor = optax_predict.gradient_predictor()
  params = jnp.full(3, 1e20)
  state = predictor.record_gradient(jnp.ones(3), predictor.init(params), params)
  assert int(state.history_size) == 1
  helpers.assert_finite(state)


@pytest.mark.parametrize("factor, longest", [(1e3, 2.0), (1.9, 1.9)])
def test_adaptive_window_limits_growth(factor, longest):
  """A forecast that explodes is cut to twice the gradient, ends its window."""

  def wrong(steps):
    return 1 + (factor - 1) * (steps == 5)

  exploding = optax_predict.Forecaster(
    init=lambda params, dtype: jax.tree.map(jnp.zeros_like, params),
    observe=lambda gradients, history, motion, forecast: gradients,
    # Exact at the true gradients, wrong between them.
    predict=lambda history, motion: optax_predict.Forecast(
      jax.tree.map(lambda g: g * wrong(motion.steps), history)
    ),
    history_size=2,
  )
  tx = optax.chain(
    optax_predict.predict_gradients(
      exploding, optax_predict.horizons.adaptive(max_steps=32)
    ),
    optax.sgd(1e-3),
  )
  params = {"a": jnp.ones(3)}
  state = tx.init(params)
  stopped, norms = 0, []
  for _ in range(60):
    gradients = helpers.skipped({"a": jnp.ones(3)}, state)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    norms.append(float(-updates["a"][0]) * 1e3)
    stopped += int(state[0].window.was_cut)
    assert not stopped or factor > 2
  np.testing.assert_allclose(max(norms), longest, rtol=1e-5)
  assert (stopped > 0) == (factor > 2)


def test_masked_and_multi_leaf_states_map():
  tx = optax.chain(optax_predict.predict_gradients(), optax.adam(1e-3))
  state = tx.init(start())
  doubled = optax.tree.map_params(tx, lambda x: x * 2, state)
  assert jax.tree.structure(doubled) == jax.tree.structure(state)
  sizes = optax.tree.map_params(
    tx, lambda x: x.size, state, transform_non_params=lambda _: 0
  )
  buffers = sum(jax.tree.leaves(sizes))
  # Ten directions, last gradient, anchor, start of the window, and Adam's two
  # moments.
  assert buffers == 15 * 7


def test_init_takes_shapes():
  tx = optax.chain(optax_predict.predict_gradients(), optax.adam(1e-3))
  shapes = jax.eval_shape(tx.init, start())
  state = tx.init(start())
  assert jax.tree.structure(shapes) == jax.tree.structure(state)
  again = tx.init(jax.eval_shape(start))
  assert helpers.types(again) == helpers.types(state)


def test_accumulator_dtype_halves_the_history():
  params = {"a": jnp.ones(1000)}
  size = {}
  for dtype in (None, jnp.bfloat16):
    tx = optax_predict.predict_gradients(accumulator_dtype=dtype)
    size[dtype] = sum(x.nbytes for x in jax.tree.leaves(tx.init(params)))
  assert size[None] - size[jnp.bfloat16] == 10 * 1000 * 2


def test_state_buffers_are_not_shared():
  tx = optax.chain(optax_predict.predict_gradients(), optax.adam(1e-3))
  state = tx.init(start())
  pointers = [
    x.unsafe_buffer_pointer() for x in jax.tree.leaves(state) if x.size
  ]
  assert len(set(pointers)) == len(pointers)


def test_scan_equals_loop(forecaster, horizon):
  tx = optax.chain(
    optax_predict.predict_gradients(forecaster, horizon), optax.adam(0.05)
  )

  def step(carry, _):
    params, state = carry
    gradients = helpers.skipped(jax.grad(loss_fn)(params), state)
    updates, state = tx.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), None

  @jax.jit
  def scanned(carry):
    return jax.lax.scan(step, carry, None, length=3)[0]

  single = jax.jit(lambda carry: step(carry, None)[0])
  carry, pairs = (start(), tx.init(start())), []
  for _ in range(10):
    looped = carry
    for _ in range(3):
      looped = single(looped)
    pairs.append((scanned(carry), looped))
    carry = looped
  helpers.assert_calls_agree(pairs)
