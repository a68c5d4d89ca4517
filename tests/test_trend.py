"""The trend forecaster, against polynomial fits made by NumPy."""

import jax
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


@pytest.mark.parametrize("decay", [0.3, 0.95, 1.0])
@pytest.mark.parametrize("residual_decay", [0.0, 0.8, 1.0])
def test_is_the_weighted_fit(decay, residual_decay):
  forecaster = optax_predict.forecasters.trend(decay, residual_decay)
  gradients = series(0)
  history = last_history(forecaster, jnp.asarray(gradients))
  times = np.cumsum(GAPS)
  # np.polyfit squares its weights.
  weights = np.sqrt(decay ** np.arange(len(GAPS))[::-1])
  slope, level = np.polyfit(times - times[-1], gradients, 1, w=weights)
  for steps in (1, 2, 40):
    faded = residual_decay**steps * (gradients[-1] - level)
    golden = level + steps * slope + faded
    forecast = predict(forecaster, history, steps)
    helpers.assert_close(forecast, golden, scale=20)


def test_every_number_of_gradients_is_fitted():
  forecaster = optax_predict.forecasters.trend(0.8)
  gradients, times = series(1), np.cumsum(GAPS)
  all_histories = histories(forecaster, jnp.asarray(gradients))
  for n in range(2, len(GAPS) + 1):
    weights = 0.8 ** (np.arange(n)[::-1] / 2)
    golden = np.polyfit(times[:n] - times[n - 1], gradients[:n], 1, w=weights)
    history = at(all_histories, n - 1)
    level = history.last_gradient - history.residual
    helpers.assert_close(history.slope, golden[0], scale=20)
    helpers.assert_close(level, golden[1], scale=20)


def test_no_memory_is_the_line_through_two():
  forecaster = optax_predict.forecasters.trend(decay=0.0)
  gradients = series(2)
  history = last_history(forecaster, jnp.asarray(gradients))
  slope = (gradients[-1] - gradients[-2]) / GAPS[-1]
  helpers.assert_close(
    predict(forecaster, history, 3), gradients[-1] + 3 * slope, scale=10
  )


def test_time_is_counted_in_optimizer_steps():
  start, velocity = np.array([5.0, -3.0]), np.array([-0.25, 0.5])
  predictor = optax_predict.gradient_predictor(
    optax_predict.forecasters.trend(),
    optax_predict.horizons.fixed(prediction_steps=3),
  )
  record = jax.jit(predictor.record_gradient)
  predict_gradient = jax.jit(predictor.predict_gradient)
  state, predicted = predictor.init(jnp.zeros(2)), 0
  for time in range(24):
    truth = start + time * velocity
    if predictor.should_compute_full(state):
      # A failed gradient takes a step of time too, and teaches nothing.
      failed = np.where(time == 9, np.nan, truth)
      state = record(jnp.asarray(failed, jnp.float32), state)
    else:
      forecast, state = predict_gradient(state)
      helpers.assert_close(forecast, truth)
      predicted += 1
  assert predicted > 12


def test_a_million_steps_lose_no_precision():
  forecaster = optax_predict.forecasters.trend()
  gaps = np.full(10_000, 100)
  times = np.cumsum(gaps)
  gradients = np.stack([1e-6 * times, 2.0 - 1e-6 * times], 1)
  history = last_history(forecaster, jnp.asarray(gradients, jnp.float32), gaps)
  helpers.assert_close(history.slope, [1e-6, -1e-6], scale=100)
  helpers.assert_close(predict(forecaster, history, 100), [1.0001, 0.9999])


def test_a_bfloat16_history_rounds_differences_only():
  forecaster = optax_predict.forecasters.trend()
  times = np.cumsum(GAPS)[:, None]
  gradients = jnp.asarray(100.0 + np.array([0.125, -0.25]) * times)
  history = last_history(forecaster, gradients, dtype=jnp.bfloat16)
  assert history.slope.dtype == history.residual.dtype == jnp.bfloat16
  golden = 100.0 + np.array([0.125, -0.25]) * (times[-1] + 4)
  # bfloat16 of 100 has steps of 0.5.
  np.testing.assert_allclose(predict(forecaster, history, 4), golden, atol=0.05)


def test_double_precision():
  with helpers.x64(True):
    forecaster = optax_predict.forecasters.trend(0.9, 0.0)
    gradients = series(3)
    history = last_history(forecaster, jnp.asarray(gradients))
    times = np.cumsum(GAPS)
    weights = 0.9 ** (np.arange(len(GAPS))[::-1] / 2)
    fit = np.polyfit(times - times[-1], gradients, 1, w=weights)
    forecast = predict(forecaster, history, 5)
    helpers.assert_close(forecast, fit[1] + 5 * fit[0], "float64", 10)


@pytest.mark.parametrize("gap", [1, 1_000_000])
def test_the_largest_gradients_stay_finite(gap):
  forecaster = optax_predict.forecasters.trend()
  signs = np.random.default_rng(4).choice([-1.0, 1.0], size=(50, 2))
  gradients = jnp.asarray(1e19 * signs, jnp.float32)
  gaps = np.where(np.arange(50) % 3 == 0, gap, 1)
  history = last_history(forecaster, gradients, gaps)
  helpers.assert_finite(history)
  forecast = forecaster.predict(history, motion(2**31 - 1))
  helpers.assert_finite(forecast)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"decay": 1.5}, r"decay must be in \[0, 1\], got 1.5"),
    ({"decay": np.nan}, r"decay must be in \[0, 1\], got nan"),
    ({"decay": "slow"}, "decay must be a number, got 'slow'"),
    ({"residual_decay": -0.1}, r"residual_decay must be in \[0, 1\], got -0.1"),
  ],
)
def test_options_are_checked(options, message):
  with pytest.raises(ValueError, match=message):
    optax_predict.forecasters.trend(**options)
