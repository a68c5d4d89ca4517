"""Bad gradients, moved parameters, changed problems: nothing stays broken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.reliability import fault_table
from benchmarks.reliability import faults
import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

MEMORY = 3
# Calls in the first windows, short and long, and at their full length.
POSITIONS = (0, 1, 2, 4, 9, 10, 11)
# True gradients after a fault within which steps are predicted again.
RECOVERY = 40
# Share of the first loss by which runs may end above the base alone: of a fault's
# runs the median, which rounding changes by 1e-5, and each single one. Among the
# latter are five gradients that point one way whatever the parameters: windows in
# full length follow them to fourteen times the first loss, and how much of that is
# left 70 calls later is for rounding to say, 0.7 to 1.1 % of the first loss.
WORSE = 0.001
WORST = 0.1


@functools.lru_cache
def injected(base):
  case = faults.cases(POSITIONS)
  forecaster = optax_predict.forecasters.secant(MEMORY)
  return fault_table.inject(base, case, forecaster)


@pytest.mark.parametrize("fault", faults.names())
@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_fault_at_every_position(base, fault):
  results = injected(base)
  at = results.case.fault == faults.names().index(fault)
  assert at.sum() >= len(POSITIONS)
  assert results.is_finite[at].all()
  assert results.recovery[at].max() <= RECOVERY
  above = results.end[at] - results.base_end[at]
  assert np.median(above) <= WORSE
  assert above.max() <= WORST


def test_faults_do_something():
  """Without this the table could be of a run that never sees a fault."""
  results = injected("sgd")
  ends = {
    name: results.base_end[results.case.fault == number]
    for number, name in enumerate(faults.names())
  }
  unharmed = ends.pop("none")
  np.testing.assert_array_equal(unharmed, unharmed[0])
  # SGD has no state of its own.
  stateless = {name for name in ends if "anew" in name} | {"frozen"}
  for name, end in ends.items():
    if name not in stateless:
      assert np.any(end != unharmed[0]), name


def bowl(params):
  return 0.5 * jnp.sum(jnp.logspace(-2, 0, 6) * params["x"] ** 2)


def start():
  return {"x": jnp.linspace(-3.0, 3.0, 6)}


STEPS = 40
BAD = {"NaN": np.nan, "Inf": np.inf, "1e38": 1e38, "1e-40": 1e-40, "0": 0.0}


def step_of(tx):
  """The form of one step per call, whose gradient may be made a bad one."""

  @jax.jit
  def step(params, state, is_bad, bad):
    def loss(params):
      return jax.lax.cond(
        is_bad, lambda: bad * jnp.sum(params["x"]), lambda: bowl(params)
      )

    value_and_grad = optax_predict.value_and_grad(loss)
    _, gradients = value_and_grad(params, state=state)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  return step


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0))
def moved_between_steps(factor, position):
  """The form of one step per call, parameters replaced before one of them."""
  tx = optax.chain(
    optax_predict.predict_gradients(optax_predict.forecasters.secant(MEMORY)),
    optax.sgd(0.9),
  )

  def step(carry, call):
    params, state = carry
    due = optax_predict.should_compute_full(state)
    params["x"] *= jnp.where(call == position, factor, 1.0)
    gradients = helpers.skipped(jax.grad(bowl)(params), state)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    return (params, state), (bowl(params), due)

  carry = (start(), tx.init(start()))
  return jax.lax.scan(step, carry, jnp.arange(2 * STEPS))


@pytest.mark.parametrize("factor", [0.1, 0.5, -1.0, 30.0])
def test_parameters_replaced_in_the_middle_of_a_window(factor):
  """A projection, an average, a restored checkpoint: the run goes on from there."""
  positions = jnp.arange(-1, STEPS)
  carry, (losses, due) = moved_between_steps(jnp.float32(factor), positions)
  helpers.assert_finite((carry, losses))
  # Each lane meets it somewhere else in a window, or at its end.
  middle = ~np.asarray(due)[np.arange(1, STEPS + 1), np.arange(STEPS)]
  assert 10 < middle.sum() < STEPS
  # Twice what the run without it has left as long before its end, at most, for the
  # loss that it begins anew from.
  assert np.all(
    losses[:, -1] <= 2 * float(losses[0, STEPS]) * max(1, factor**2)
  )
  # And steps are predicted again.
  assert np.all(np.sum(~due[:, -10:], axis=1) > 0)


def test_gradient_in_the_middle_of_a_window_changes_nothing():
  """At every state of a run, the same step with it and without: bit by bit."""
  predicting = optax_predict.predict_gradients(
    optax_predict.forecasters.secant(MEMORY)
  )
  clipped = optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(0.9))
  tx = optax.chain(predicting, optax.apply_if_finite(clipped, 10))
  step = step_of(tx)
  params, state, in_windows = start(), tx.init(start()), 0
  for _ in range(STEPS):
    is_due = bool(optax_predict.should_compute_full(state))
    good = step(params, state, False, 0.0)
    for bad in BAD.values():
      found = step(params, state, True, bad)
      helpers.assert_finite(found)
      assert helpers.are_equal(found, good) == (not is_due)
    in_windows += not is_due
    params, state = good
  assert 5 < in_windows < STEPS - 5


@pytest.mark.parametrize("bad", BAD)
def test_a_run_goes_on_after_bad_gradients(bad):
  """Of one gradient in eight, the first too."""
  tx = optax.chain(
    optax_predict.predict_gradients(optax_predict.forecasters.secant(MEMORY)),
    optax.apply_if_finite(
      optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(0.9)), 10
    ),
  )
  step = step_of(tx)
  params, state = start(), tx.init(start())
  for call in range(STEPS):
    params, state = step(params, state, call % 8 == 0, BAD[bad])
    helpers.assert_finite((params, state))
  assert int(optax_predict.get_stats(state).predicted_steps) > 5
  # 0.006 to 0.007, by the fault.
  assert float(bowl(params)) < 0.05 * float(bowl(start()))


def test_changed_learning_rate_of_inject_hyperparams():
  """The window in hand is stopped by the longer updates, and grows again."""

  def make(learning_rate):
    forecaster = optax_predict.forecasters.secant(MEMORY)
    return optax.chain(
      optax_predict.predict_gradients(forecaster), optax.sgd(learning_rate)
    )

  tx = optax.inject_hyperparams(make)(learning_rate=0.3)

  @jax.jit
  def step(params, state):
    updates, state = tx.update(jax.grad(bowl)(params), state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  params = start()
  state = tx.init(params)
  losses, predicted = [], []
  for rate in [0.3] * 12 + [1.5] * 12 + [0.1] * 12:
    # A schedule or a user sets it between two calls.
    state.hyperparams["learning_rate"] = jnp.float32(rate)
    params, state = step(params, state)
    losses.append(float(bowl(params)))
    predicted.append(int(optax_predict.get_stats(state).predicted_steps))
  helpers.assert_finite((params, state))
  # Steps are predicted again in the last eight calls at every rate.
  assert predicted[3] < predicted[11]
  assert predicted[15] < predicted[23]
  assert predicted[27] < predicted[35]
  assert losses[-1] < losses[11] < losses[0]


def test_counters_stop_at_the_largest_integer():
  largest = np.iinfo(np.int32).max
  tx = optax.chain(
    optax_predict.predict_gradients(optax_predict.forecasters.secant(MEMORY)),
    optax.sgd(0.5),
  )

  @jax.jit
  def step(params, state):
    updates, state = tx.update(jax.grad(bowl)(params), state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  params = start()
  state = tx.init(params)
  for _ in range(8):
    params, state = step(params, state)
  for left in (5, 0):
    late = state[0]._replace(
      step_count=jnp.int32(largest - left),
      true_gradient_count=jnp.int32(largest - left - 3),
    )
    late_params, late_state = params, (late, *state[1:])
    for _ in range(8):
      late_params, late_state = step(late_params, late_state)
      helpers.assert_finite((late_params, late_state))
      stats = optax_predict.get_stats(late_state)
      assert 0 < int(stats.computed_steps) <= int(stats.total_steps) <= largest
      assert int(stats.predicted_steps) >= 0
      assert 0 <= float(stats.prediction_ratio) <= 1
      assert float(stats.mean_error) < 10
    assert int(stats.total_steps) == largest
    # They stop together: what was predicted is still right.
    assert int(stats.predicted_steps) >= 3
    # What is counted does not change what is done.
    same_params, same_state = params, state
    for _ in range(8):
      same_params, same_state = step(same_params, same_state)
    np.testing.assert_array_equal(late_params["x"], same_params["x"])
