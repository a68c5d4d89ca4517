"""Under noise the predictor rests: true gradients pass by unseen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict


def error(relative, size=2):
  return optax_predict.ForecastError(
    relative_error=jnp.float32(relative),
    correlation=jnp.float32(0),
    history_size=jnp.int32(size),
    window_steps=jnp.int32(1),
    window_stopped=jnp.int32(0),
  )


def lengths(errors):
  horizon = optax_predict.horizons.adaptive()
  update, state, out = jax.jit(horizon.update), horizon.init(), []
  for e in errors:
    steps, state = update(error(e), state)
    out.append(int(steps))
  return out


def test_it_rests_twice_as_long_each_time():
  found = lengths([1.0] * 140)
  rests = [-n for n in found if n < 0]
  assert rests == [16, 32, 64, 128, 256, 512, 512]
  assert [i for i, n in enumerate(found) if n < 0] == list(range(19, 140, 20))


def test_a_better_forecast_takes_three_back():
  assert lengths([1.0] * 19 + [0.7] + [1.0] * 4)[-1] == -16
  assert lengths([1.0] * 19 + [0.7] + [1.0] * 3)[-1] == 0
  assert min(lengths([1.0, 1.0, 0.7] * 50)) == 0


def test_a_window_forgets_the_rests():
  found = lengths([1.0] * 20 + [0.01] + [1.0] * 22)
  assert found[19] == -16 and found[20] == 1
  assert [n for n in found[21:] if n < 0] == [-16]


@pytest.fixture
def resting():
  """A predictor that has just begun to rest, and how it is fed noise."""
  rng = np.random.default_rng(0)
  tx = optax_predict.predict_gradients(
    optax_predict.forecasters.secant(memory=2)
  )
  update = jax.jit(tx.update)

  def feed(state):
    gradients, params = jnp.asarray(rng.normal(size=(2, 50)), jnp.float32)
    updates, state = update(gradients, state, params)
    np.testing.assert_array_equal(updates, gradients)
    return state

  state = tx.init(jnp.zeros(50))
  while int(state.remaining_steps) == 0:
    assert int(state.step_count) < 100
    state = feed(state)
  return state, feed


def test_true_gradients_are_due_and_unseen_during_a_rest(resting):
  state, feed = resting
  kept, length = state.gradient_history, -int(state.remaining_steps)
  assert length == 16
  for _ in range(length):
    before, state = state, feed(state)
    assert bool(optax_predict.should_compute_full(before))
    for new, old in zip(
      jax.tree.leaves(state.gradient_history), jax.tree.leaves(kept)
    ):
      np.testing.assert_array_equal(new, old)
  assert int(state.remaining_steps) == 0
  stats = optax_predict.get_stats(state)
  assert int(stats.predicted_steps) == 0
  assert int(stats.computed_steps) == int(state.step_count)
  state = feed(state)
  assert int(state.gradient_history.pairs) != int(kept.pairs)


def test_fast_forward_does_not_wake_it(resting):
  state, _ = resting
  tx = optax_predict.predict_gradients(
    optax_predict.forecasters.secant(memory=2)
  )
  tx = optax.chain(tx, optax.sgd(0.1))
  params = jnp.zeros(50)
  opt_state = (state, *tx.init(params)[1:])
  after, opt_state = optax_predict.fast_forward(tx, params, opt_state)
  np.testing.assert_array_equal(after, params)
  assert int(opt_state[0].remaining_steps) == -16
