"""Holt's method, against the same told step by step in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

import optax_predict
from tests import helpers
from tests.observations import at
from tests.observations import GAPS
from tests.observations import histories
from tests.observations import last_history
from tests.observations import motion
from tests.observations import predict
from tests.observations import series


def told_step_by_step(gradients, gaps, alpha, beta, phi):
  """Level and slope after each gradient, every optimizer step walked."""
  times = np.cumsum(gaps)
  level, slope, told = gradients[0], 0.0 * gradients[0], []
  for i, (gradient, gap) in enumerate(zip(gradients, gaps, strict=True)):
    if i > 0:
      reach, shrunk = 0.0, 1.0
      for _ in range(gap):
        slope = phi * slope
        level = level + slope
        shrunk *= phi
        reach += shrunk
      # Weights that fall with the time passed, as an average has them.
      seen = times[: i + 1]
      level_gain = 1 / np.sum((1 - alpha) ** (times[i] - seen))
      slope_gain = 1 / np.sum((1 - beta) ** (times[i] - seen[1:]))
      moved = level_gain * (gradient - level)
      level = level + moved
      slope = slope + slope_gain * moved * shrunk / reach
    told.append((level, slope))
  return told


@pytest.mark.parametrize(
  "options",
  [(0.7, 0.5, 0.98), (0.3, 0.2, 0.7), (0.5, 0.5, 1.0), (0.9, 0.0, 0.999)],
)
def test_is_what_is_told_step_by_step(options):
  forecaster = optax_predict.forecasters.holt(*options)
  gradients = series(0)
  told = told_step_by_step(gradients, GAPS, *options)
  all_histories = histories(forecaster, jnp.asarray(gradients))
  for i, (level, slope) in enumerate(told):
    history = at(all_histories, i)
    for steps in (1, 40):
      reach = sum(options[2] ** i for i in range(1, steps + 1))
      helpers.assert_close(
        predict(forecaster, history, steps), level + reach * slope, scale=20
      )


def test_regular_steps_are_the_textbook_recursion():
  alpha, beta, phi = 0.6, 0.4, 0.9
  forecaster = optax_predict.forecasters.holt(alpha, beta, phi)
  gradients = series(1, 60)
  history = last_history(forecaster, jnp.asarray(gradients[:-1]), np.ones(59))
  level, slope = (np.asarray(x) for x in (history.level, history.slope))
  # Holt (1957) with Gardner's damping; the start is long forgotten.
  new_level = alpha * gradients[-1] + (1 - alpha) * (level + phi * slope)
  new_slope = beta * (new_level - level) + (1 - beta) * phi * slope
  history = last_history(forecaster, jnp.asarray(gradients), np.ones(60))
  helpers.assert_close(history.level, new_level, scale=10)
  helpers.assert_close(history.slope, new_slope, scale=10)


def test_full_gains_are_the_line_through_two():
  forecaster = optax_predict.forecasters.holt(1.0, 1.0, 1.0)
  gradients = series(2)
  history = last_history(forecaster, jnp.asarray(gradients))
  slope = (gradients[-1] - gradients[-2]) / GAPS[-1]
  helpers.assert_close(
    predict(forecaster, history, 3), gradients[-1] + 3 * slope, scale=10
  )


def test_no_damping_left_is_plain_smoothing():
  forecaster = optax_predict.forecasters.holt(0.5, 0.5, 0.0)
  gradients = series(3)
  history = last_history(forecaster, jnp.asarray(gradients))
  weights = 0.5 ** (GAPS.sum() - np.cumsum(GAPS))
  golden = np.average(gradients, axis=0, weights=weights)
  for steps in (1, 9):
    helpers.assert_close(predict(forecaster, history, steps), golden, scale=10)


def test_a_line_is_followed_for_a_million_steps():
  forecaster = optax_predict.forecasters.holt(0.5, 0.5, 1.0)
  gaps = np.full(10_000, 100)
  gradients = np.stack([1e-6 * np.cumsum(gaps), 2 - 1e-6 * np.cumsum(gaps)], 1)
  history = last_history(forecaster, jnp.asarray(gradients, jnp.float32), gaps)
  helpers.assert_close(history.slope, [1e-6, -1e-6], scale=200)
  helpers.assert_close(predict(forecaster, history, 100), [1.0001, 0.9999])


def test_a_bfloat16_history_rounds_the_slope_only():
  forecaster = optax_predict.forecasters.holt(damping=1.0)
  times = np.cumsum(GAPS)[:, None]
  gradients = jnp.asarray(100.0 + np.array([0.125, -0.25]) * times)
  history = last_history(forecaster, gradients, dtype=jnp.bfloat16)
  full = last_history(forecaster, gradients)
  assert history.slope.dtype == jnp.bfloat16
  # bfloat16 of 100 has steps of 0.5.
  np.testing.assert_allclose(
    predict(forecaster, history, 4), predict(forecaster, full, 4), atol=0.05
  )


def test_double_precision():
  with helpers.x64(True):
    options = (0.7, 0.5, 0.98)
    forecaster = optax_predict.forecasters.holt(*options)
    gradients = series(4)
    history = last_history(forecaster, jnp.asarray(gradients))
    level, slope = told_step_by_step(gradients, GAPS, *options)[-1]
    helpers.assert_close(history.level, level, "float64", 10)
    helpers.assert_close(history.slope, slope, "float64", 10)


def test_starts_anew_where_it_would_overflow():
  options, gaps = (0.05, 1.0, 1.0), np.array([1, 1, 1, 33] * 60)
  gradients = 1e10 * series(5, len(gaps))
  told = np.array(told_step_by_step(gradients, gaps, *options))
  assert np.max(np.abs(told)) > np.finfo(np.float32).max
  forecaster = optax_predict.forecasters.holt(*options)
  all_histories = histories(
    forecaster, jnp.asarray(gradients, jnp.float32), gaps
  )
  helpers.assert_finite(all_histories)
  fresh = np.flatnonzero(all_histories.slope_weight == 0)
  assert fresh[0] == 0 and len(fresh) > 1
  for i in fresh:
    helpers.assert_close(all_histories.level[i], gradients[i])
    assert not np.any(all_histories.slope[i])


def test_the_largest_gradients_stay_finite():
  forecaster = optax_predict.forecasters.holt(1.0, 1.0, 1.0)
  signs = np.random.default_rng(6).choice([-1.0, 1.0], size=(50, 2))
  gradients = jnp.asarray(1e19 * signs, jnp.float32)
  history = last_history(forecaster, gradients, np.ones(50))
  helpers.assert_finite(history)
  forecast = forecaster.predict(history, motion(2**31 - 1))
  helpers.assert_finite(forecast)


@pytest.mark.parametrize("name", ["level", "slope", "damping"])
def test_options_are_checked(name):
  message = rf"{name} must be in \[0, 1\], got 1.5"
  with pytest.raises(ValueError, match=message):
    optax_predict.forecasters.holt(**{name: 1.5})
