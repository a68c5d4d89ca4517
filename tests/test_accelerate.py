"""accelerate: a whole window inside one update."""

import functools
from typing import NamedTuple
import warnings

import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib
import pytest

import optax_predict
from optax_predict import forecasters
from optax_predict import horizons
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

RATE = 0.1
CURVATURE = jnp.array([1.0, 0.3, 0.1, 0.02])
# Predicts the last gradient, twice, whatever it was worth.
REPEAT = forecasters.momentum(0.0)
TWICE = horizons.fixed(2, -1.0)


def loss_fn(x):
  return 0.5 * jnp.sum(CURVATURE * x**2) + 0.01 * jnp.sum(x**4)


def accelerated_losses(tx, x, calls):
  def step(carry, _):
    x, state = carry
    loss, gradients = jax.value_and_grad(loss_fn)(x)
    updates, state = tx.update(gradients, state, x)
    return (optax.apply_updates(x, updates), state), loss

  carry, losses = jax.lax.scan(step, (x, tx.init(x)), None, calls)
  return losses, carry[1]


def chained_losses(base, horizon, x, calls):
  tx = optax.chain(optax_predict.predict_gradients(horizon=horizon), base)

  def step(carry, _):
    x, state = carry
    loss, gradients = jax.value_and_grad(loss_fn)(x)
    updates, state = tx.update(gradients, state, x)
    x = optax.apply_updates(x, updates)
    return optax_predict.fast_forward(tx, x, state), loss

  carry, losses = jax.lax.scan(step, (x, tx.init(x)), None, calls)
  return losses, carry[1]


def fed(tx, gradients, **options):
  """Parameters after each of some given gradients, and the last state."""
  update = jax.jit(tx.update)
  x = jnp.array([1.0, 2.0, 3.0])
  state, path = tx.init(x), []
  for gradient in gradients:
    updates, state = update(jnp.full(3, gradient), state, x, **options)
    x = optax.apply_updates(x, updates)
    path.append(np.asarray(x))
  return np.array(path), state


def moved(moves):
  return np.array([1.0, 2.0, 3.0]) - RATE * np.cumsum(moves)[:, None]


@pytest.mark.parametrize(
  "base",
  [optax.sgd(0.3), optax.sgd(0.1, momentum=0.9), optax.adam(0.05)],
  ids=["sgd", "momentum", "adam"],
)
def test_it_is_the_chain_with_fast_forward(base):
  """Over few calls: later, rounding makes two runs of any two programs."""
  horizon = horizons.adaptive(max_error=None)
  x = jnp.array([1.0, -2.0, 0.5, 1.5])
  tx = optax_predict.accelerate(base, horizon=horizon)
  found, state = accelerated_losses(tx, x, 7)
  wanted, chained = chained_losses(base, horizon, x, 7)
  np.testing.assert_allclose(found, wanted, rtol=1e-3)
  stats = optax_predict.get_stats(state)
  assert int(stats.computed_steps) == 7
  assert int(stats.predicted_steps) > 3
  assert int(stats.total_steps) == int(
    optax_predict.get_stats(chained).total_steps
  )


@pytest.mark.parametrize(
  "base", [optax.sgd(RATE), optax.adam(RATE)], ids=["sgd", "adam"]
)
def test_where_nothing_is_predicted_updates_are_the_base_s(base):
  """Not a difference of parameters, which rounds to theirs."""
  horizon = horizons.warmup(100, horizons.adaptive())
  tx = optax_predict.accelerate(base, horizon=horizon)
  x = jnp.array([1e4, -2e4, 5e3, 1.5e4])
  state, base_state = tx.init(x), base.init(x)
  for i in range(5):
    gradients = 1e-3 * jnp.cos(x + i)
    updates, state = tx.update(gradients, state, x)
    wanted, base_state = base.update(gradients, base_state, x)
    # A difference of these parameters is off by 1e-4 and more.
    np.testing.assert_allclose(updates, wanted, rtol=1e-6)
    x = optax.apply_updates(x, updates)


def test_one_update_is_the_way_of_the_whole_window():
  tx = optax_predict.accelerate(optax.sgd(RATE), REPEAT, TWICE)
  path, state = fed(tx, [1.0, 1.0, 2.0])
  # One gradient says nothing of forecasts yet; then two steps follow each.
  np.testing.assert_allclose(path, moved([1, 3, 6]), rtol=1e-6, atol=1e-6)
  stats = optax_predict.get_stats(state)
  assert (int(stats.computed_steps), int(stats.predicted_steps)) == (3, 4)


def test_a_window_is_taken_back_with_the_state_of_the_base():
  horizon = TWICE._replace(max_error=1.5)
  tx = optax_predict.accelerate(optax.sgd(RATE, momentum=0.5), REPEAT, horizon)
  path, state = fed(tx, [1.0, 1.0, -5.0])
  trace, x, wanted = 0.0, 0.0, []
  for steps in (1, 3):
    for step in range(steps):
      trace = 0.5 * trace + 1.0
      x += trace
      if (steps, step) == (3, 0):
        start = x, trace
    wanted.append(x)
  x, trace = start
  wanted.append(x)
  expected = np.array([1.0, 2.0, 3.0]) - RATE * np.array(wanted)[:, None]
  np.testing.assert_allclose(path, expected, rtol=1e-6, atol=1e-6)
  np.testing.assert_allclose(
    state.base_optimizer_state[0].trace, np.full(3, trace), rtol=1e-6
  )
  # It goes on from there, with the base as it was.
  path, state = fed(tx, [1.0, 1.0, -5.0, 1.0])
  trace = 0.5 * trace + 1.0
  np.testing.assert_array_less(path[-1], path[-2])
  first_step = RATE * trace
  assert np.all(path[-2] - path[-1] > 0.99 * first_step)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize(
  "base", [optax.sgd(RATE, momentum=0.9), optax.adam(RATE)], ids=["sgd", "adam"]
)
def test_a_gradient_that_is_not_finite_leaves_no_trace(base, wrong):
  """At the end of a window, which is taken back."""
  tx = optax_predict.accelerate(base, REPEAT, TWICE._replace(max_error=1.5))
  path, state = fed(tx, [1.0, 1.0, wrong, 1.0, 1.0])
  helpers.assert_finite((path, state))
  start, end, back, *later = path[:, 0]
  assert end < back < start
  assert later[1] < later[0] < back


def test_a_gradient_that_is_not_finite_passes_to_the_base():
  """Where no window led to it, and never into the history."""
  tx = optax_predict.accelerate(optax.sgd(RATE), REPEAT, TWICE)
  path, state = fed(tx, [np.nan])
  assert np.isnan(path).all()
  helpers.assert_finite(state)


def test_windows_are_taken_back_only_where_the_horizon_says_so():
  tx = optax_predict.accelerate(
    optax.sgd(RATE), REPEAT, TWICE._replace(max_error=None)
  )
  path, state = fed(tx, [1.0, 1.0, 1.0, -5.0])
  np.testing.assert_allclose(path, moved([1, 3, 3, -15]), rtol=1e-6, atol=1e-6)
  assert state.start_base_state is None


# Schedules -----------------------------------------------------------------


def rates(count):
  return jnp.array([1.0, 2.0, 3.0, 4.0, 0.0, 0.0])[count]


def test_a_schedule_counts_true_gradients_and_rests_within_a_window():
  tx = optax_predict.accelerate(optax.sgd(rates), REPEAT, TWICE)
  path, state = fed(tx, [RATE] * 5)
  # Calls of 1, 3, 3, ... steps, each at its gradient's rate.
  np.testing.assert_allclose(
    path, moved([1, 6, 9, 12, 0]), rtol=1e-6, atol=1e-6
  )
  assert int(state.base_optimizer_state[1].count) == 5


@pytest.mark.parametrize("hold, wanted", [(True, 4), (False, 10)])
def test_fast_forward_can_hold_schedules_too(hold, wanted):
  tx = optax.chain(
    optax_predict.predict_gradients(REPEAT, TWICE),
    optax.sgd(lambda count: 0.01 + 0.0 * count),
  )
  x = jnp.ones(3)
  state = tx.init(x)
  for _ in range(4):
    updates, state = tx.update(jnp.ones(3), state, x)
    x = optax.apply_updates(x, updates)
    x, state = optax_predict.fast_forward(tx, x, state, hold_schedules=hold)
  assert int(state[1][1].count) == wanted


def test_injected_schedules_count_true_gradients():
  base = optax.inject_hyperparams(optax.sgd)(learning_rate=rates)
  tx = optax_predict.accelerate(base, REPEAT, TWICE)
  path, state = fed(tx, [RATE] * 4)
  np.testing.assert_allclose(path, moved([1, 6, 9, 12]), rtol=1e-6, atol=1e-6)
  assert int(state.base_optimizer_state.count) == 4


def test_an_injected_rate_can_be_changed_between_calls():
  base = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)
  tx = optax_predict.accelerate(base, REPEAT, TWICE)
  x = jnp.zeros(3)
  state = tx.init(x)
  for rate, wanted in ((1.0, 1), (1.0, 3), (2.0, 6)):
    state.base_optimizer_state.hyperparams["learning_rate"] = jnp.float32(rate)
    updates, state = tx.update(jnp.ones(3), state, x)
    np.testing.assert_allclose(
      updates, -wanted * np.ones(3), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
  "schedule",
  [
    optax.cosine_decay_schedule(1.0, 6),
    optax.warmup_cosine_decay_schedule(0.1, 1.0, 2, 6),
    optax.linear_onecycle_schedule(6, 1.0),
    optax.piecewise_constant_schedule(1.0, {3: 0.1}),
    optax.sgdr_schedule(
      [dict(init_value=0.1, peak_value=1, warmup_steps=1, decay_steps=3)] * 2
    ),
  ],
  ids=["cosine", "warmup", "onecycle", "piecewise", "sgdr"],
)
def test_every_schedule_is_where_it_would_be_without_prediction(schedule):
  tx = optax_predict.accelerate(optax.sgd(schedule), REPEAT, TWICE)
  path, _ = fed(tx, [RATE] * 6)
  steps = [1, 3, 3, 3, 3, 3]
  moves = [n * float(schedule(i)) for i, n in enumerate(steps)]
  np.testing.assert_allclose(path, moved(moves), rtol=1e-5, atol=1e-6)


def test_a_plateau_is_one_of_true_gradients():
  base = optax.chain(
    optax.sgd(1.0), contrib.reduce_on_plateau(patience=4, factor=0.5)
  )
  tx = optax_predict.accelerate(base, REPEAT, TWICE)
  _, state = fed(tx, [RATE] * 4, value=jnp.float32(1.0))
  # Four equal losses, the first of which was an improvement.
  assert int(state.base_optimizer_state[1].plateau_count) == 3
  assert float(state.base_optimizer_state[1].scale) == 1.0


class Counter(NamedTuple):
  count: jax.Array


def test_a_scheduled_weight_decay_counts_true_gradients():
  """As any state does that only counts, which is how optax keeps schedules."""

  def update(updates, state, params):
    decay = jnp.where(state.count < 3, 0.0, 1.0)
    updates = jax.tree.map(lambda g, p: g + decay * p, updates, params)
    return updates, Counter(state.count + 1)

  decay = optax.GradientTransformation(
    lambda _: Counter(jnp.zeros([], jnp.int32)), update
  )
  tx = optax_predict.accelerate(
    optax.chain(decay, optax.sgd(1.0)), REPEAT, TWICE
  )
  path, state = fed(tx, [RATE] * 3)
  np.testing.assert_allclose(path, moved([1, 3, 3]), rtol=1e-6, atol=1e-6)
  assert int(state.base_optimizer_state[0].count) == 3


def test_adam_counts_every_step():
  """Its count is of the moments that it corrects."""
  tx = optax_predict.accelerate(optax.adam(RATE), REPEAT, TWICE)
  _, state = fed(tx, [1.0] * 4)
  assert int(state.base_optimizer_state[0].count) == 1 + 3 * 3


@pytest.mark.parametrize("make", [contrib.prodigy, contrib.dadapt_adamw])
def test_what_an_optimizer_counts_for_itself_is_every_step(make):
  """It reads its schedule with that count."""
  rates = []

  def schedule(count):
    jax.debug.callback(lambda x: rates.append(int(x)), count, ordered=True)
    return jnp.float32(1.0)

  tx = optax_predict.accelerate(make(schedule), REPEAT, TWICE)
  _, state = fed(tx, [1.0] * 4)
  # One step, then three for each true gradient.
  jax.effects_barrier()
  assert int(state.base_optimizer_state.count) == 1 + 3 * 3 == len(rates)
  assert rates == list(range(10))


# Loops ----------------------------------------------------------------------


def test_it_needs_fewer_true_gradients_than_the_base():
  x = jnp.array([1.0, -2.0, 0.5, 1.5])
  alone = optax.adam(0.02)
  target = 1e-3 * float(loss_fn(x))
  found, _ = accelerated_losses(optax_predict.accelerate(alone), x, 60)

  def step(carry, _):
    x, state = carry
    loss, gradients = jax.value_and_grad(loss_fn)(x)
    updates, state = alone.update(gradients, state, x)
    return (optax.apply_updates(x, updates), state), loss

  _, losses = jax.lax.scan(step, (x, alone.init(x)), None, 1500)
  needed = int(np.argmax(np.asarray(losses) < target))
  assert needed > 100
  assert float(jnp.min(found)) < target


def test_it_can_keep_the_parameters():
  base = optax.adam(RATE)
  keeping = optax_predict.accelerate(base, keep_params=True)
  given = optax_predict.accelerate(base)
  x = jnp.array([1.0, -2.0, 0.5, 1.5])
  kept, state = x, given.init(x)
  keeping_state = keeping.init(x)
  for _ in range(6):
    updates, state = given.update(jax.grad(loss_fn)(x), state, x)
    x = optax.apply_updates(x, updates)
    updates, keeping_state = keeping.update(
      jax.grad(loss_fn)(kept), keeping_state
    )
    kept = optax.apply_updates(kept, updates)
    np.testing.assert_array_equal(kept, keeping_state.params)
    np.testing.assert_allclose(kept, x, rtol=1e-5)
  assert int(optax_predict.get_stats(state).predicted_steps) > 0


def test_eager_calls_are_compiled_once():
  traces = []
  base = optax.sgd(RATE)

  def update(updates, state, params=None):
    traces.append(1)
    return base.update(updates, state, params)

  tx = optax_predict.accelerate(optax.GradientTransformation(base.init, update))
  x = jnp.ones(4)
  state = tx.init(x)
  _, state = tx.update(x, state, x)
  first = len(traces)
  for _ in range(3):
    _, state = tx.update(x, state, x)
  assert len(traces) == first > 0


def test_a_monitor_hears_of_every_true_gradient():
  seen = []
  tx = optax_predict.accelerate(
    optax.sgd(RATE), REPEAT, TWICE, monitor=seen.append
  )
  fed(tx, [1.0] * 3)
  jax.effects_barrier()
  assert [int(s.computed_steps) for s in seen] == [1, 2, 3]
  assert int(seen[-1].predicted_steps) == 4
  assert "3 true gradients" in str(seen[-1])


def test_extra_arguments_reach_the_base_at_every_step():
  def update(updates, state, params=None, *, factor, **extra_args):
    assert set(extra_args) == {"value"}
    return jax.tree.map(lambda g: -factor * g, updates), state

  base = optax.GradientTransformationExtraArgs(lambda _: (), update)
  tx = optax_predict.accelerate(base, REPEAT, TWICE)
  path, _ = fed(tx, [1.0, 1.0], factor=RATE, value=jnp.float32(1.0))
  np.testing.assert_allclose(path, moved([1, 3]), rtol=1e-6, atol=1e-6)


def test_an_argument_that_is_no_array_reaches_the_base():
  def update(updates, state, params=None, *, fun):
    return jax.tree.map(fun, updates), state

  base = optax.GradientTransformationExtraArgs(lambda _: (), update)
  tx = optax_predict.accelerate(base, REPEAT, TWICE)
  x = jnp.zeros(3)
  updates, _ = tx.update(jnp.ones(3), tx.init(x), x, fun=lambda g: -RATE * g)
  np.testing.assert_allclose(updates, -RATE * np.ones(3), rtol=1e-6, atol=1e-6)


def test_reset_forgets_the_gradients_and_leaves_the_base_alone():
  tx = optax_predict.accelerate(optax.adam(RATE), REPEAT, TWICE)
  _, state = fed(tx, [1.0] * 3)
  fresh = optax_predict.reset(state)
  assert int(optax_predict.get_stats(fresh).total_steps) == 0
  jax.tree.map(
    np.testing.assert_array_equal,
    fresh.base_optimizer_state,
    state.base_optimizer_state,
  )


# State ----------------------------------------------------------------------


@pytest.mark.parametrize(
  "dtype", ["float16", "bfloat16", "float32", "float64", "complex64"]
)
@pytest.mark.parametrize("keep_params", [False, True])
def test_types_stay_as_init_made_them(dtype, keep_params):
  with helpers.x64(dtype == "float64"):
    tx = optax_predict.accelerate(
      optax.adam(0.05), keep_params=keep_params, correction_weight=0.5
    )
    params = helpers.nested(np.linspace(-2, 3, 7), dtype)
    state = tx.init(params)
    wanted = helpers.types(state)
    assert helpers.types(jax.eval_shape(tx.init, params)) == wanted
    step = jax.jit(tx.update, donate_argnums=1)
    for _ in range(6):
      gradients = jax.tree.map(lambda x: 0.1 * jnp.conj(x), params)
      updates, state = step(gradients, state, params)
      assert helpers.types(state) == wanted
      assert helpers.types(updates) == helpers.types(params)
      params = optax.apply_updates(params, updates)
    helpers.assert_finite(jax.tree.map(jnp.abs, (params, state)))


@pytest.mark.parametrize(
  "params", [{}, {"a": None}, {"a": jnp.zeros((0,))}], ids=["{}", "none", "0"]
)
def test_parameters_may_be_empty(params):
  tx = optax_predict.accelerate(optax.adam(RATE))
  state = tx.init(params)
  for _ in range(3):
    updates, state = tx.update(params, state, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


def many(count, size=4, dtype="float32"):
  """Parameters in so many arrays."""
  rng = np.random.default_rng(count)
  return {
    f"layer{i}": jnp.asarray(rng.normal(size=(size, 2)), dtype)
    for i in range(count)
  }


def is_dict(x):
  return isinstance(x, dict)


def squared_norm(tree):
  return sum(jnp.sum(x**2) for x in jax.tree.leaves(tree))


def shorten(gradients, state, params=None, *, longest=None, **extra):
  """Treats each element by itself, unless it is told a length."""
  del params, extra
  if longest is None:
    return gradients, state
  scale = jnp.minimum(1, longest / jnp.sqrt(squared_norm(gradients)))
  return jax.tree.map(lambda x: scale * x, gradients), state


# Optimizers, whether they see one vector, and what else update is given.
ONE_VECTOR = {
  "adam": (optax.adam(RATE), True, {}),
  "momentum": (optax.sgd(RATE, momentum=0.9), True, {}),
  "lion": (optax.lion(0.01), True, {}),
  "injected": (optax.inject_hyperparams(optax.adamw)(RATE), True, {}),
  "global norm": (
    optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE)),
    False,
    {},
  ),
  "plateau": (
    optax.chain(optax.adam(RATE), contrib.reduce_on_plateau()),
    False,
    {"value": 1.0},
  ),
  "told otherwise": (
    optax.chain(
      optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), shorten
      ),
      optax.sgd(RATE, momentum=0.9),
    ),
    True,
    {"longest": 1.0},
  ),
}


@pytest.mark.parametrize("name", ONE_VECTOR)
def test_many_small_arrays_are_one_vector_and_the_same_run(name):
  base, is_vector, extra_args = ONE_VECTOR[name]
  params = many(7)
  scales = jax.tree.map(lambda x: jnp.linspace(0.05, 1.0, x.size), params)
  few = {"all": jnp.concatenate([x.ravel() for x in params.values()])}
  few_scales = {"all": jnp.concatenate(list(scales.values()))}

  def run(params, scales):
    tx = optax_predict.accelerate(base)
    state = tx.init(params)
    update = jax.jit(functools.partial(tx.update, **extra_args))
    for _ in range(6):
      gradients = jax.tree.map(
        lambda s, x: s.reshape(x.shape) * x, scales, params
      )
      updates, state = update(gradients, state, params)
      params = optax.apply_updates(params, updates)
    return params, state

  found, state = run(params, scales)
  wanted, wanted_state = run(few, few_scales)
  assert {x.shape for x in jax.tree.leaves(state.predictor.trees)} == {(56,)}
  shapes = {x.shape for x in jax.tree.leaves(state.base_optimizer_state)}
  assert ((56,) in shapes) == is_vector and ((4, 2) in shapes) != is_vector
  of_base = optax_predict.get_base_state(base, state, found)
  made = jax.tree.map(jnp.shape, base.init(params))
  assert jax.tree.map(jnp.shape, of_base) == made
  base.update(found, of_base, found, **extra_args)
  stats = [optax_predict.get_stats(s) for s in (state, wanted_state)]
  assert stats[0].predicted_steps == stats[1].predicted_steps > 5
  found = np.concatenate([np.ravel(x) for x in found.values()])
  # Sums over other shapes are rounded otherwise.
  np.testing.assert_allclose(found, wanted["all"], rtol=1e-3, atol=1e-4)


def test_a_base_that_treats_arrays_apart_sees_them_apart():
  labels = {name: "slow" if name == "layer0" else "fast" for name in many(7)}
  base = optax.partition(
    {"slow": optax.sgd(RATE / 2), "fast": optax.sgd(RATE)}, labels
  )
  tx, params = optax_predict.accelerate(base), many(7)
  updates, _ = tx.update(params, tx.init(params), params)
  for name, label in labels.items():
    rate = RATE / 2 if label == "slow" else RATE
    np.testing.assert_allclose(updates[name], -rate * params[name], rtol=1e-6)


def shorten_by_hand(gradients):
  """A global norm, of which XLA sees sums of arrays only where they are numbers."""
  norm = jnp.sqrt(sum(x**2 for x in gradients.values()))
  return {name: x / norm for name, x in gradients.items()}


def tie(gradients):
  return dict.fromkeys(gradients, sum(gradients.values()) / 2)


MEETING = {
  "norm": shorten_by_hand,
  "tied": tie,
  "swapped": lambda g: {"a": g["b"], "b": g["a"]},
  "by another": lambda g: {"a": g["a"] * g["b"], "b": g["b"]},
  # The same operation of both arrays, on what stands for either.
  "by the last": lambda g: {"a": g["a"] * g["b"], "b": g["b"] * g["b"]},
}


@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("name", MEETING)
def test_arrays_that_meet_are_not_taken_for_one_vector(name, shape):
  base = optax.chain(
    optax.stateless(lambda g, p: MEETING[name](g)), optax.sgd(1.0, momentum=0.9)
  )
  tx = optax_predict.accelerate(base)
  params = {"a": jnp.full(shape, 3.0), "b": jnp.full(shape, 4.0)}
  found, _ = tx.update(params, tx.init(params), params)
  wanted, _ = base.update(params, base.init(params), params)
  helpers.assert_close(found, wanted)


@pytest.mark.parametrize("base", [optax.sgd(RATE), optax.adam(RATE)])
def test_gradients_may_be_narrower_than_several_parameters(base):
  params = {"a": jnp.ones(3), "b": jnp.ones(2)}
  gradients = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  tx = optax_predict.accelerate(base, horizon=horizons.fixed(2, -1.0))
  state, steps = tx.init(params), 0.0
  for _ in range(3):
    updates, state = tx.update(gradients, state, params)
    wanted = jax.tree.map(lambda x: np.full(x.shape, x[0]), updates)
    helpers.assert_close(updates, wanted)
    steps += float(updates["a"][0])
  assert steps < -6 * RATE
  # One, and then two windows of two more: the gradient is the same throughout.
  np.testing.assert_allclose(steps, -7 * RATE, rtol=0.01)


def test_gradients_that_are_wider_than_parameters_are_named():
  with helpers.x64(True):
    params = {"a": jnp.ones(3, jnp.float32), "b": jnp.ones(2, jnp.float32)}
    gradients = params | {"b": jnp.ones(2, jnp.float64)}
    for tx in (
      optax_predict.accelerate(optax.sgd(RATE)),
      optax.chain(optax_predict.predict_gradients(), optax.sgd(RATE)),
    ):
      with pytest.raises(ValueError, match=r"leaf \['b'\] has dtype float64"):
        tx.update(gradients, tx.init(params), params)


def needing(axis_or_value):
  """An optimizer whose update cannot be traced with gradients and state alone."""

  def update(updates, state, params=None, **extra_args):
    if axis_or_value == "axis":
      updates = jax.lax.pmean(updates, "devices")
    scale = extra_args["value"] if axis_or_value == "value" else 1.0
    return jax.tree.map(lambda x: -scale * x, updates), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )


def test_a_base_may_need_what_is_not_there_at_init():
  params = {"a": jnp.ones(3), "b": jnp.ones(2)}
  tx = optax_predict.accelerate(needing("value"))
  updates, _ = tx.update(params, tx.init(params), params, value=2.0)
  helpers.assert_close(updates, jax.tree.map(lambda x: -2 * x, params))
  tx = optax_predict.accelerate(needing("axis"))
  state = tx.init(params)
  updates, _ = jax.vmap(
    lambda g: tx.update(g, state, params), axis_name="devices"
  )(jax.tree.map(lambda x: jnp.stack([x, 3 * x]), params))
  wanted = jax.tree.map(lambda x: jnp.stack([-2 * x] * 2), params)
  helpers.assert_close(updates, wanted)


@pytest.mark.parametrize("read", [float, np.asarray])
def test_a_base_may_read_the_numbers_that_it_begins_with(read):
  def init(params):
    norm = read(optax.tree.norm(params))
    return jax.tree.map(jnp.zeros_like, params), jnp.asarray(norm)

  base = optax.GradientTransformation(
    init, lambda g, s, p=None: (jax.tree.map(jnp.negative, g), s)
  )
  params = {"a": jnp.ones(3), "b": jnp.ones(2)}
  tx = optax_predict.accelerate(base)
  state = tx.init(params)
  updates, state = jax.jit(tx.update)(params, state, params)
  helpers.assert_close(updates, jax.tree.map(jnp.negative, params))
  found = optax_predict.get_base_state(base, state, params)
  helpers.assert_close(found[1], np.sqrt(5.0))


def test_another_number_of_parameters_is_named():
  tx = optax_predict.accelerate(optax.adam(RATE))
  state = tx.init({"w": jnp.ones((2, 3)), "b": jnp.ones(4)})
  other = {"w": jnp.ones((3, 3)), "b": jnp.ones(4)}
  with pytest.raises(ValueError, match="2 arrays hold 13 numbers, but .* 10"):
    tx.update(other, state, other)


def test_a_truth_value_reaches_the_base_as_it_is():
  def update(updates, state, params=None, *, training, **extra_args):
    return jax.tree.map(lambda x: -x if training else x, updates), state

  base = optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )
  for params in (jnp.ones(3), {"a": jnp.ones(3), "b": jnp.ones(2)}):
    tx = optax_predict.accelerate(base)
    updates, _ = tx.update(params, tx.init(params), params, training=True)
    helpers.assert_close(updates, jax.tree.map(jnp.negative, params))


def test_many_parameters_may_be_plain_numbers():
  params = {name: 1.0 + i for i, name in enumerate("abcdef")}
  tx = optax_predict.accelerate(optax.sgd(RATE))
  state = tx.init(params)
  assert {x.shape for x in jax.tree.leaves(state.predictor.trees)} == {(6,)}
  updates, state = tx.update(params, state, params)
  np.testing.assert_allclose(
    list(updates.values()), -RATE * np.arange(1.0, 7.0), rtol=1e-6
  )


@pytest.mark.parametrize(
  "params",
  [
    many(1),
    many(5, size=2**19),
    many(5) | {"half": jnp.ones(3, jnp.bfloat16)},
  ],
  ids=["one", "large", "two dtypes"],
)
def test_other_arrays_stay_as_they_are(params):
  state = jax.eval_shape(
    optax_predict.accelerate(optax.adam(RATE)).init, params
  )
  kept = jax.tree.leaves(state.predictor.trees, is_leaf=is_dict)
  assert len(kept) == 13
  for tree in kept:
    assert jax.tree.map(jnp.shape, tree) == jax.tree.map(jnp.shape, params)


def test_vmap_is_each_fit_for_itself():
  """From the same states, at several points of a run: one call each."""
  tx = optax_predict.accelerate(optax.sgd(0.3, momentum=0.5))
  xs = jnp.array([[1.0, -2.0, 0.5, 1.5], [3.0, 1.0, -1.0, 0.1]])
  states = jax.vmap(tx.init)(xs)

  def step(x, state):
    updates, state = tx.update(jax.grad(loss_fn)(x), state, x)
    return optax.apply_updates(x, updates), state

  def of(tree, i):
    return jax.tree.map(lambda x: x[i], tree)

  many, single = jax.jit(jax.vmap(step)), jax.jit(step)
  pairs = []
  for _ in range(8):
    after = many(xs, states)
    pairs += [(of(after, i), single(*of((xs, states), i))) for i in range(2)]
    xs, states = after
  # Of the largest number: a window of many steps adds up their rounding.
  helpers.assert_calls_agree(pairs, scale=10)
  stats = jax.vmap(optax_predict.get_stats)(states)
  assert np.all(np.asarray(stats.predicted_steps) > 5)


@pytest.mark.parametrize("lengths", [(3,), (3, 2)])
def test_a_device_may_have_a_fit_of_its_own(lengths):
  tx = optax_predict.accelerate(optax.adam(RATE))
  start = [jnp.linspace(1.0, 2.0, length) for length in lengths]

  def fit(params):
    state = tx.init(params)
    for _ in range(3):
      updates, state = tx.update(params, state, params)
      params = optax.apply_updates(params, updates)
    return params

  everywhere = jax.shard_map(
    fit,
    mesh=jax.sharding.Mesh(np.array(jax.devices()[:1]), ("devices",)),
    in_specs=jax.sharding.PartitionSpec("devices"),
    out_specs=jax.sharding.PartitionSpec("devices"),
    check_vma=False,
  )
  helpers.assert_close(
    jax.jit(everywhere)(start), jax.jit(fit)(start), scale=10
  )


def test_map_params_sees_parameters():
  tx = optax_predict.accelerate(optax.adam(RATE), keep_params=True)
  params = {"a": jnp.ones(3), "b": jnp.ones([2, 2])}
  state = tx.init(params)
  names = optax.tree.map_params(
    tx, lambda _, name: name, state, {"a": "a", "b": "b"}
  )
  assert names.params == {"a": "a", "b": "b"}
  kept = jax.tree.leaves(names.predictor.trees, is_leaf=is_dict)
  assert kept == 13 * [{"a": "a", "b": "b"}]
  assert names.base_optimizer_state[0].mu == {"a": "a", "b": "b"}


def test_it_is_exported_for_every_platform():
  tx = optax_predict.accelerate(optax.adam(RATE))
  x = jnp.ones(4)
  exported = export.export(
    jax.jit(lambda g, p: tx.update(g, tx.init(p), p)[0]),
    platforms=["cpu", "cuda", "tpu"],
  )(x, x)
  assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


# Bad input ------------------------------------------------------------------


def test_parameters_are_asked_for():
  tx = optax_predict.accelerate(optax.adam(RATE))
  x = jnp.ones(3)
  with pytest.raises(ValueError, match=r"params is missing.*keep_params=True"):
    tx.update(x, tx.init(x))


@pytest.mark.parametrize(
  "base, message",
  [
    (optax.lbfgs(), "searches along a line"),
    (
      optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(3)),
      "searches along a line",
    ),
    (optax_predict.accelerate(optax.adam(RATE)), "predicts gradients already"),
    (
      optax.chain(optax_predict.predict_gradients(), optax.adam(RATE)),
      "predicts gradients already",
    ),
  ],
  ids=["lbfgs", "backtracking", "accelerate", "predict_gradients"],
)
def test_bases_that_cannot_be(base, message):
  with pytest.raises(ValueError, match=message):
    optax_predict.accelerate(base).init(jnp.ones(3))


@pytest.mark.parametrize(
  "build, error, message",
  [
    (lambda: optax_predict.accelerate(0.1), TypeError, "base_optimizer must"),
    (
      lambda: optax_predict.accelerate(optax.adam),
      TypeError,
      "base_optimizer must",
    ),
    (
      lambda: optax_predict.accelerate(optax.adam(0.1), monitor=3),
      TypeError,
      "monitor must",
    ),
    (
      lambda: optax_predict.accelerate(optax.adam(0.1), 5),
      TypeError,
      "forecaster must",
    ),
    (
      lambda: optax_predict.accelerate(
        optax.adam(0.1), correction_weight=np.nan
      ),
      ValueError,
      "nan",
    ),
  ],
)
def test_options_are_checked_when_it_is_built(build, error, message):
  with pytest.raises(error, match=message):
    build()


class Module:
  """Stands for a model that holds a function among its leaves."""


@pytest.mark.parametrize("leaf", [jax.nn.relu, "relu", Module()])
def test_leaves_that_are_no_arrays_are_named(leaf):
  tx = optax_predict.accelerate(optax.adam(RATE))
  params = {"w": jnp.ones(3), "activation": leaf}
  wanted = r"\['activation'\].*eqx.filter"
  with pytest.raises(TypeError, match=wanted):
    tx.init(params)
  chain = optax.chain(optax_predict.predict_gradients(), optax.adam(RATE))
  state = chain.init({"w": jnp.ones(3), "activation": None})
  with pytest.raises(TypeError, match=wanted):
    optax_predict.fast_forward(chain, params, state)
  with pytest.raises(TypeError, match=wanted):
    optax_predict.check_chain(chain, params)


@pytest.mark.parametrize("leaf", [jax.nn.relu, "relu", Module()])
def test_a_whole_module_may_be_handed_over_with_its_gradients(leaf):
  """As Equinox's examples do, where the gradient of a function is None."""
  tx = optax_predict.accelerate(optax.adam(RATE))
  trained = {"w": jnp.ones(3), "activation": None}
  state, params = tx.init(trained), trained | {"activation": leaf}
  for _ in range(3):
    gradients = {"w": jnp.ones(3), "activation": None}
    updates, state = tx.update(gradients, state, params)
    assert updates["activation"] is None
    params = params | {"w": params["w"] + updates["w"]}
  assert float(params["w"][0]) < 1 - 3 * RATE


def test_states_and_trees_of_something_else_are_refused():
  tx = optax_predict.accelerate(optax.adam(RATE))
  x = {"w": jnp.ones(3)}
  state = tx.init(x)
  with pytest.raises(ValueError, match="expected an AccelerateState"):
    tx.update(x, optax.adam(RATE).init(x), x)
  with pytest.raises(ValueError, match=r"\['v'\]"):
    tx.update({"v": jnp.ones(3)}, state, {"v": jnp.ones(3)})
  with pytest.raises(ValueError, match=r"gradients: leaf \['w'\]"):
    tx.update({"w": jnp.ones(4)}, state, x)
  other = optax_predict.accelerate(optax.adam(RATE), forecasters.secant(3))
  with pytest.raises(ValueError, match="another forecaster"):
    other.update(x, state, x)


def test_fast_forward_is_told_to_be_left_out():
  tx = optax_predict.accelerate(optax.adam(RATE))
  x = jnp.ones(3)
  state = tx.init(x)
  with pytest.raises(ValueError, match="Leave fast_forward out"):
    optax_predict.fast_forward(tx, x, state)
  # No gradient is skipped, in any form.
  optax_predict.check_chain(tx, x)
  assert bool(optax_predict.should_compute_full(state))


def test_the_chain_alone_is_the_base():
  """Without fast_forward or value_and_grad: every gradient given is used."""
  base = optax.adam(RATE)
  tx = optax.chain(optax_predict.predict_gradients(), base)
  x = alone = jnp.array([1.0, -2.0, 0.5, 1.5])
  state, base_state = tx.init(x), base.init(x)
  step = jax.jit(functools.partial(tx.update))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    for _ in range(12):
      updates, state = step(jax.grad(loss_fn)(x), state, x)
      x = optax.apply_updates(x, updates)
      updates, base_state = base.update(
        jax.grad(loss_fn)(alone), base_state, alone
      )
      alone = optax.apply_updates(alone, updates)
      np.testing.assert_allclose(x, alone, rtol=1e-5)
  stats = optax_predict.get_stats(state)
  assert int(stats.computed_steps) == int(stats.total_steps) == 12
