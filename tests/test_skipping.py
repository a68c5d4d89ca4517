"""fast_forward and value_and_grad: the loss is really not evaluated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

WEIGHTS = jnp.array([1.0, 0.3, 0.1, 0.03])


def loss_fn(params):
  return 0.5 * jnp.sum(WEIGHTS * params["x"] ** 2)


def start():
  return {"x": jnp.array([1.0, -2.0, 3.0, 0.5])}


def optimizer(forecaster=None, horizon=None, base=None):
  if forecaster is None:
    forecaster = optax_predict.forecasters.secant(memory=4)
  return optax.chain(
    optax_predict.predict_gradients(forecaster, horizon),
    optax.sgd(0.9) if base is None else base,
  )


def counted(loss, count):
  """The loss, with a host callback at every evaluation."""

  def tick(_):
    count[0] += 1

  def wrapped(params):
    value = loss(params)
    jax.debug.callback(tick, value)
    return value

  return wrapped


def fast_forward_run(tx, params, calls, loss=loss_fn, **extra):
  """Returns the final carry and the parameters at every true gradient."""

  def step(carry, _):
    params, state = carry
    at = params
    gradients = jax.grad(loss)(params)
    updates, state = tx.update(gradients, state, params, **extra)
    params = optax.apply_updates(params, updates)
    params, state = optax_predict.fast_forward(tx, params, state, **extra)
    return (params, state), at

  return jax.jit(
    lambda p: jax.lax.scan(step, (p, tx.init(p)), None, length=calls)
  )(params)


def per_step_run(tx, params, steps, loss=loss_fn):
  """The same with one step per call; also which steps were computed."""
  value_and_grad = optax_predict.value_and_grad(loss)

  def step(carry, _):
    params, state = carry
    due = optax_predict.should_compute_full(state)
    value, gradients = value_and_grad(params, state=state)
    updates, state = tx.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), (params, due, value)

  return jax.jit(
    lambda p: jax.lax.scan(step, (p, tx.init(p)), None, length=steps)
  )(params)


@pytest.mark.parametrize("form", [fast_forward_run, per_step_run])
def test_loss_is_evaluated_once_per_true_gradient(form):
  count = [0]
  (_, state), _ = form(optimizer(), start(), 25, counted(loss_fn, count))
  jax.effects_barrier()
  stats = optax_predict.get_stats(state)
  assert count[0] == int(stats.computed_steps)
  assert int(stats.predicted_steps) > 5
  total = int(stats.computed_steps) + int(stats.predicted_steps)
  assert int(stats.total_steps) == total


@pytest.mark.parametrize(
  "forecaster",
  [
    optax_predict.forecasters.momentum(),
    optax_predict.forecasters.secant(memory=3),
  ],
)
@pytest.mark.parametrize(
  "base", [optax.sgd(0.3), optax.sgd(0.1, momentum=0.9), optax.adam(0.1)]
)
@pytest.mark.parametrize("steps", [1, 4])
def test_forms_agree_with_a_fixed_horizon(forecaster, base, steps):
  horizon = optax_predict.horizons.fixed(steps, min_correlation=-1.0)
  tx = optimizer(forecaster, horizon, base)
  (params, state), visited = fast_forward_run(tx, start(), 8)
  stats = optax_predict.get_stats(state)
  total = int(stats.total_steps)
  assert total == 8 + 7 * steps
  (params2, state2), (path, due, _) = per_step_run(tx, start(), total)
  np.testing.assert_array_equal(
    np.flatnonzero(due), [0, *range(1, total, steps + 1)]
  )
  helpers.assert_close(params2, params, scale=10)
  at_true = jax.tree.map(lambda x: x[np.flatnonzero(due)], path)
  helpers.assert_close(at_true, visited, scale=10)
  helpers.assert_close(state2, state, scale=100)


def test_fast_forward_keeps_state_types_and_compiles_once():
  tx = optimizer(base=optax.adam(0.05))

  @jax.jit
  def step(params, state):
    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  params = start()
  state = jax.jit(tx.init)(params)
  before = helpers.types((params, state))
  lengths = set()
  for _ in range(25):
    params, state = step(params, state)
    assert helpers.types((params, state)) == before
    lengths.add(int(optax_predict.get_stats(state).horizon))
  assert len(lengths) > 2  # the window's length did vary
  assert step._cache_size() == 1


def test_prediction_saves_true_gradients():
  """On a quadratic, far fewer true gradients to the same loss."""
  base = optax.sgd(1.0)

  def plain(params, _):
    return optax.apply_updates(
      params, base.update(jax.grad(loss_fn)(params), base.init(params))[0]
    ), loss_fn(params)

  _, losses = jax.lax.scan(plain, start(), None, length=200)
  _, visited = fast_forward_run(optimizer(base=base), start(), 200)
  predicting = jax.vmap(loss_fn)(visited)
  target = float(losses[0]) * 1e-4
  needed = int(np.argmax(np.asarray(losses) <= target))
  needed_predicting = int(np.argmax(np.asarray(predicting) <= target))
  assert 0 < needed_predicting <= 0.5 * needed


def test_value_and_grad_takes_what_jax_takes():
  def loss(a, b, *, scale):
    return scale * jnp.sum(a * b), {"seen": a + 1}

  tx = optimizer()
  a, b = jnp.ones(3), jnp.arange(3.0)
  state = tx.init((a, b))
  mine = optax_predict.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  wanted = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  got = mine(a, b, scale=2.0, state=state)
  jax.tree.map(np.testing.assert_array_equal, got, wanted(a, b, scale=2.0))


def not_due(params):
  """A state in the middle of a window."""
  tx = optax_predict.predict_gradients(
    optax_predict.forecasters.momentum(), optax_predict.horizons.fixed()
  )
  state = tx.init(params)
  for _ in range(2):
    _, state = tx.update(params, state, params)
  assert not optax_predict.should_compute_full(state)
  return state


def test_skipped_call_is_nan_unless_said_otherwise():
  def loss(params):
    return loss_fn(params), {"mean": jnp.ones(2)}

  params = start()
  state = not_due(params)
  fn = optax_predict.value_and_grad(loss, has_aux=True)
  (value, aux), gradients = fn(params, state=state)
  assert np.isnan(value) and np.all(np.isnan(aux["mean"]))
  np.testing.assert_array_equal(gradients["x"], np.zeros(4))
  statistics = {"mean": jnp.array([3.0, 4.0])}
  (value, aux), _ = fn(params, state=state, skipped=(1.5, statistics))
  assert float(value) == 1.5
  np.testing.assert_array_equal(aux["mean"], statistics["mean"])


def test_skipped_integers_must_be_said():
  def loss(params):
    return loss_fn(params), jnp.int32(3)

  fn = optax_predict.value_and_grad(loss, has_aux=True)
  with pytest.raises(TypeError, match="skipped="):
    fn(start(), state=not_due(start()))


def test_skipped_of_another_shape_is_refused():
  fn = optax_predict.value_and_grad(loss_fn)
  with pytest.raises(ValueError, match=r"skipped.*\(2,\)"):
    fn(start(), state=not_due(start()), skipped=jnp.zeros(2))


def test_state_must_be_passed_and_hold_a_predictor():
  fn = optax_predict.value_and_grad(loss_fn)
  with pytest.raises(TypeError, match="state= is missing"):
    fn(start())
  other = optax.adam(1e-3).init(start())
  for call in (
    lambda: fn(start(), state=other),
    lambda: optax_predict.should_compute_full(other),
    lambda: optax_predict.get_stats(other),
    lambda: optax_predict.reset(other),
    lambda: optax_predict.fast_forward(optax.adam(1e-3), start(), other),
  ):
    with pytest.raises(ValueError, match="holds no predictor's state"):
      call()


def test_fast_forward_needs_params():
  tx = optimizer()
  with pytest.raises(ValueError, match="params is missing"):
    optax_predict.fast_forward(tx, None, tx.init(start()))


def test_reset_keeps_the_optimizers_own_state():
  tx = optimizer(base=optax.adam(0.1))
  (_, state), _ = fast_forward_run(tx, start(), 10)
  again = optax_predict.reset(state)
  jax.tree.map(np.testing.assert_array_equal, again[1:], state[1:])
  fresh = tx.init(start())
  jax.tree.map(np.testing.assert_array_equal, again[0], fresh[0])


def every_other(step):
  return step % 2 == 0


@pytest.mark.parametrize(
  "wrap",
  [
    lambda: optax.MultiSteps(optimizer(), every_k_schedule=2),
    lambda: optax.chain(
      optax.conditionally_transform(
        optax_predict.predict_gradients(), every_other
      ),
      optax.sgd(0.9),
    ),
  ],
  ids=["MultiSteps", "conditionally_transform"],
)
def test_wrapper_that_holds_steps_back_ends_the_window(wrap):
  tx = wrap()

  @jax.jit
  def step(params, state):
    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  params = start()
  state = tx.init(params)
  for _ in range(12):
    params, state = step(params, state)
    assert bool(optax_predict.should_compute_full(state))
  assert float(loss_fn(params)) < 0.7 * float(loss_fn(start()))


def test_several_predictors_share_an_optimizer():
  tx = optax.partition(
    {
      "fast": optimizer(base=optax.sgd(0.1)),
      "slow": optimizer(
        optax_predict.forecasters.momentum(),
        optax_predict.horizons.fixed(2),
        optax.adam(0.05),
      ),
    },
    {"a": "fast", "b": "slow"},
  )

  def loss(params):
    return jnp.sum(params["a"] ** 2) + jnp.sum((params["b"] - 1) ** 2)

  params = {"a": jnp.ones(3), "b": jnp.zeros(2)}
  (params, state), _ = fast_forward_run(tx, params, 40, loss)
  assert float(loss(params)) < 0.1
  stats = optax_predict.get_stats(state)
  assert int(stats.computed_steps) == 40
  assert int(stats.predicted_steps) > 20


def windows(updates, calls):
  """Predicted steps of each call, for a constant gradient."""
  tx = optimizer(
    optax_predict.forecasters.momentum(),
    optax_predict.horizons.adaptive(max_growth=2.0),
    optax.scale_by_schedule(lambda count: -0.01 * updates(count)),
  )

  @jax.jit
  def step(params, state):
    gradients = jax.grad(lambda params: jnp.sum(params["x"]))(params)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  params, taken = start(), []
  state = tx.init(params)
  for _ in range(calls):
    params, state = step(params, state)
    taken.append(int(state[0].window.elapsed_steps) - 1)
  return taken, bool(state[0].window.was_cut)


# The second takes its windows on weights.
@pytest.mark.parametrize("size", [3, 1 << 15])
def test_no_window_opens_where_steps_are_lost_in_rounding(size):
  """Near 1000 a float32 cannot move by 1e-5, however many steps there are."""
  tx = optax_predict.accelerate(optax.sgd(1e-8))

  @jax.jit
  def run(params):
    def body(carry, _):
      params, state = carry
      gradients = jax.tree.map(lambda x: x + 1, params)
      updates, state = tx.update(gradients, state, params)
      params = optax.apply_updates(params, updates)
      return (params, state), None

    return jax.lax.scan(body, (params, tx.init(params)), None, length=20)[0]

  for place, predicts in [(1000.0, False), (0.001, True)]:
    params = jnp.full(size, place, jnp.float32)
    after, state = run(params)
    assert (int(optax_predict.get_stats(state).predicted_steps) > 0) == predicts
    assert bool(jnp.any(after != params)) == predicts


def test_a_window_that_is_back_where_it_began_goes_on():
  """A step of Lion, at a minimum, undoes the last to the bit."""
  horizon = optax_predict.horizons.fixed(4, -1.0)._replace(max_growth=9.0)

  def swing(updates, count, params=None):
    del params
    sign = jnp.where(count % 2 == 0, 0.5, -0.5)
    return jax.tree.map(lambda x: sign * jnp.ones_like(x), updates), count + 1

  base = optax.GradientTransformation(lambda _: jnp.zeros([], jnp.int32), swing)
  tx = optax_predict.accelerate(
    base, optax_predict.forecasters.momentum(0.0), horizon
  )
  params = jnp.ones(3)
  state = tx.init(params)
  for _ in range(3):
    updates, state = tx.update(jnp.ones(3), state, params)
    params = optax.apply_updates(params, updates)
  assert int(optax_predict.get_stats(state).predicted_steps) == 2 * 4


@pytest.mark.parametrize("count", [1, 5, 40])
def test_a_horizon_hears_how_many_updates_a_way_is_long(count):
  heard = []

  def update(error, state):
    jax.debug.callback(lambda way: heard.append(float(way)), error.way)
    steps = jnp.where(error.history_size > 0, count, 0)
    return steps.astype(jnp.int32), state

  horizon = optax_predict.Horizon(lambda: jnp.zeros([]), update, max_growth=9.0)
  tx = optax_predict.accelerate(
    optax.sgd(0.25), optax_predict.forecasters.momentum(0.0), horizon
  )
  params = jnp.ones(3)
  state = tx.init(params)
  for _ in range(3):
    updates, state = tx.update(jnp.ones(3), state, params)
    params = optax.apply_updates(params, updates)
  jax.effects_barrier()
  # No window lies before the first two. This one may lead nine times as far as the
  # move between them, an update.
  wanted = [0.0, 0.0, min(count, 9) + 1.0]
  np.testing.assert_allclose(heard, wanted, rtol=1e-5)


def test_perfect_windows_grow_by_sixty_four_and_then_by_eight():
  assert windows(lambda count: 1.0, 5) == ([0, 63, 511, 4095, 4096], False)


def test_one_long_update_ends_the_window():
  """Counts 2 to 64 are the second window; the long update is its last step then.

  Long is what is longer than a quarter of the 64 that the window may lead.
  """
  long = lambda count: jnp.where(count == 20, 17.0, 1.0)  # noqa: E731
  assert windows(long, 2) == ([0, 19], True)
  short = lambda count: jnp.where(count == 20, 15.0, 1.0)  # noqa: E731
  taken, was_cut = windows(short, 2)
  # It counts for as many steps as it is long.
  assert taken == [0, 63 - 14] and not was_cut


def test_window_of_growing_updates_ends_by_distance():
  """Updates grow by a tenth: windows lead so many times as far as the last move."""
  taken, _ = windows(lambda count: 1.1**count, 5)
  assert max(taken) >= 1
  first, last = 0, 0.0
  for i, n in enumerate(taken):
    # All but the last step, after which the window had gone far enough.
    times = 64 if i == 1 else 8
    before_last = sum(1.1**j for j in range(first, first + n))
    assert n == 0 or before_last <= times * last
    last = sum(1.1**j for j in range(first, first + n + 1))
    first += n + 1
