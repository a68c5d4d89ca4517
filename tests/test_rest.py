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


def lengths(errors, are_noise=(True,)):
  """Steps of each window, or less than 0: the rest that is asked for in its place.

  ``are_noise`` says what each look then finds, the last for all that follow.
  """
  horizon = optax_predict.horizons.adaptive()
  update, state, out, rested = jax.jit(horizon.update), horizon.init(), [], 0
  for e in errors:
    steps, state = update(error(e)._replace(rested=jnp.int32(rested)), state)
    rest = int(horizon.rest(state))
    looks = sum(n < 0 for n in out)
    rested = rest if are_noise[min(looks, len(are_noise) - 1)] else 0
    out.append(-rest if rest else int(steps))
  return out


def test_it_rests_twice_as_long_each_time():
  found = lengths([1.0] * 30)
  rests = [-n for n in found if n < 0]
  assert rests[:8] == [8, 16, 32, 64, 128, 256, 512, 512]
  # One forecast after each rest says the same again.
  assert [i for i, n in enumerate(found) if n < 0] == list(range(19, 30))


def test_gradients_that_are_no_noise_are_looked_at_ever_later():
  found = lengths([1.0] * 1300, are_noise=[False])
  assert {n for n in found if n < 0} == {-8}
  looks = [i for i, n in enumerate(found) if n < 0]
  assert np.diff([-1, *looks]).tolist() == [20, 40, 80, 160, 320, 320, 320]


def test_noise_ends_doubts():
  found = lengths([1.0] * 63, are_noise=[False, True])
  rests = {i: n for i, n in enumerate(found) if n < 0}
  assert rests == {19: -8, 59: -8, 60: -16, 61: -32, 62: -64}


def test_a_better_forecast_takes_three_back():
  assert lengths([1.0] * 19 + [0.7] + [1.0] * 4)[-1] == -8
  assert lengths([1.0] * 19 + [0.7] + [1.0] * 3)[-1] == 0
  assert min(lengths([1.0, 1.0, 0.7] * 50)) == 0


def test_a_window_forgets_the_rests():
  found = lengths([1.0] * 20 + [0.01] + [1.0] * 60)
  assert found[19] == -8 and found[20] > 0
  assert [n for n in found[21:] if n < 0][:3] == [-8, -16, -32]


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
  while int(state.rest_steps) == 0:
    assert int(state.step_count) < 100
    state = feed(state)
  return state, feed


def test_true_gradients_are_due_and_unseen_during_a_rest(resting):
  state, feed = resting
  kept, length = state.gradient_history, int(state.rest_steps)
  assert length == 8
  for _ in range(length):
    before, state = state, feed(state)
    assert bool(optax_predict.should_compute_full(before))
    for new, old in zip(
      jax.tree.leaves(state.gradient_history), jax.tree.leaves(kept)
    ):
      np.testing.assert_array_equal(new, old)
  assert int(state.rest_steps) == 0
  stats = optax_predict.get_stats(state)
  assert int(stats.predicted_steps) == 0
  assert int(stats.computed_steps) == int(state.step_count)
  state = feed(state)
  assert int(state.gradient_history.pairs) != int(kept.pairs)


def record(path, forecaster=None, rest=16):
  """The states along a path of gradients; every one asks for a rest."""
  default = optax_predict.horizons.adaptive()
  horizon = default._replace(rest=lambda state: jnp.int32(rest))
  predictor = optax_predict.gradient_predictor(
    forecaster or optax_predict.forecasters.secant(memory=2), horizon
  )
  path = jnp.asarray(path, jnp.float32)
  states, state = [], predictor.init(path[0])
  step = jax.jit(predictor.record_gradient)
  for i, gradients in enumerate(path):
    state = step(gradients, state, path[0] + i)
    states.append(state)
  return states


def drift(rng):
  """It turns by about ten degrees from one to the next."""
  start, way = rng.normal(size=(2, 40))
  return start + 0.17 * np.arange(6)[:, None] * way


def swing(rng):
  signs = (-1.0) ** np.arange(6)
  return signs[:, None] * rng.normal(size=40) + 0.05 * rng.normal(size=(6, 40))


def still(rng):
  return np.ones((6, 40)) * rng.normal(size=40)


def shrink(rng):
  """One direction, up to rounding."""
  return 0.1 ** np.arange(6)[:, None] * rng.normal(size=40)


FORECASTERS = {
  "secant": optax_predict.forecasters.secant(memory=2),
  "momentum": optax_predict.forecasters.momentum(),
  "trend": optax_predict.forecasters.trend(),
  "holt": optax_predict.forecasters.holt(),
}


@pytest.mark.parametrize("name", FORECASTERS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("path", [drift, swing, still, shrink])
def test_only_noise_is_rested_from(name, seed, path):
  rng = np.random.default_rng(seed)
  scales = 10.0 ** rng.uniform(-2, 2, size=(6, 1))
  noise = record(scales * (rng.normal(size=(6, 40)) + 0.3), FORECASTERS[name])
  assert [int(s.rest_steps) for s in noise] == [0, 0, 0, 0, 16, 15]
  other = record(path(rng), FORECASTERS[name])
  assert [int(s.rest_steps) for s in other] == [0] * 6
  # The sixth is recorded again, and its forecast is told of no rest.
  assert int(other[-1].look.remaining) == 4
  assert int(other[-2].look.rest) == 0


def test_what_is_looked_at_is_compared_and_not_recorded():
  rng = np.random.default_rng(3)
  path = (rng.normal(size=(5, 40)) * 10.0 ** np.arange(5)[:, None]).astype(
    np.float32
  )
  states = record(path)
  directions = path / np.linalg.norm(path, axis=1, keepdims=True)
  distances = np.linalg.norm(directions[1:] - directions[0], axis=1)
  look = states[-1].look
  np.testing.assert_allclose(look.nearest, distances.min(), rtol=1e-5)
  np.testing.assert_allclose(look.farthest, distances.max(), rtol=1e-5)
  for old, new in zip(
    jax.tree.leaves(states[0].gradient_history),
    jax.tree.leaves(states[-1].gradient_history),
  ):
    np.testing.assert_array_equal(old, new)


def test_a_gradient_that_is_not_finite_is_not_compared():
  path = np.random.default_rng(4).normal(size=(6, 40))
  path[2, 7] = np.nan
  states = record(path)
  assert [int(s.look.remaining) for s in states] == [4, 3, 3, 2, 1, 0]
  assert int(states[-1].rest_steps) == 16
  assert all(np.isfinite(x) for x in states[-1].look)


def test_a_forecaster_that_recalls_nothing_rests_at_once():
  forecaster = FORECASTERS["secant"]._replace(recall=None)
  states = record(still(np.random.default_rng(5)), forecaster, rest=2)
  assert [int(s.rest_steps) for s in states] == [2, 1, 0, 2, 1, 0]


def test_noise_is_recorded_27_times_in_600():
  predictor = optax_predict.gradient_predictor(
    optax_predict.forecasters.secant(memory=2)
  )

  def see(state, key):
    is_recorded = (state.rest_steps <= 0) & (state.look.remaining <= 0)
    gradients, params = jax.random.normal(key, (2, 2000))
    return predictor.record_gradient(gradients, state, params), is_recorded

  keys = jax.random.split(jax.random.key(0), 600)
  state = predictor.init(jnp.zeros(2000))
  _, is_recorded = jax.jit(lambda s: jax.lax.scan(see, s, keys))(state)
  assert int(is_recorded.sum()) == 27


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
  assert int(opt_state[0].rest_steps) == 8


def test_a_window_that_led_to_a_far_larger_gradient_is_followed_by_a_pause():
  horizon = optax_predict.horizons.adaptive()
  good, wrong = error(0.01), error(0.01)._replace(growth=jnp.float32(2.1))
  state, steps = horizon.init(), []
  for e in [good, good, wrong, good, good, wrong, *[good] * 4]:
    n, state = horizon.update(e, state)
    steps.append(int(n))
  # One true gradient after the first; that window's good successor halves the
  # pause, which the second doubles.
  assert steps[:3] == [7, 63, 0]
  assert steps[3] > 0
  assert steps[5] == 0


def test_pauses_grow_while_windows_go_wrong():
  horizon = optax_predict.horizons.adaptive()
  good, state, waits = error(0.01)._replace(window_steps=jnp.int32(0)), None, []
  wrong = error(0.01)._replace(growth=jnp.float32(100.0))
  state = horizon.init()
  for _ in range(9):
    steps, wait = 0, 0
    _, state = horizon.update(wrong, state)
    while steps == 0:
      steps, state = horizon.update(good, state)
      wait += 1
    waits.append(wait)
  assert waits == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_a_true_gradient_after_a_window_is_passed_on_at_a_bounded_length():
  tx = optax_predict.predict_gradients(
    optax_predict.forecasters.momentum(),
    optax_predict.horizons.adaptive(max_steps=8, max_growth=2.0),
  )
  update, params = jax.jit(tx.update), jnp.zeros(2)
  state = tx.init(params)
  one = jnp.array([3.0, 4.0])
  for i in range(2):
    updates, state = update(one, state, params + i)
    np.testing.assert_array_equal(updates, one)
  assert int(state.window.remaining_steps) > 0
  while int(state.window.remaining_steps) > 0:
    _, state = update(0 * one, state, params)
  lengths = []
  for factor in (100.0, 100.0, 3.0, 100.0):
    updates, state = update(factor * one, state, params)
    lengths.append(float(jnp.linalg.norm(updates)))
    assert int(state.window.remaining_steps) <= 0
  # Twice the last until one is not longer; from there on as they are.
  np.testing.assert_allclose(lengths, [10.0, 20.0, 15.0, 500.0], rtol=1e-6)
