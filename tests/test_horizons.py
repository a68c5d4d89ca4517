"""Horizons, worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

import optax_predict


def error(relative=0.1, correlation=0.9, size=2, steps=1, stopped=0):
  return optax_predict.ForecastError(
    relative_error=jnp.float32(relative),
    correlation=jnp.float32(correlation),
    history_size=jnp.int32(size),
    window_steps=jnp.int32(steps),
    window_stopped=jnp.int32(stopped),
  )


def lengths(horizon, errors):
  state = horizon.init()
  out = []
  for e in errors:
    steps, state = horizon.update(e, state)
    assert steps.dtype == jnp.int32
    out.append(int(steps))
  return out


def test_fixed():
  horizon = optax_predict.horizons.fixed(3, min_correlation=0.5)
  assert lengths(
    horizon,
    [
      error(size=0),
      error(size=1),
      error(correlation=0.5),
      error(correlation=0.49),
      error(correlation=-1.0),
      error(correlation=1.0),
    ],
  ) == [0, 3, 3, 0, 0, 3]


def test_adaptive_doubles_while_forecasts_are_good():
  horizon = optax_predict.horizons.adaptive(max_steps=12)
  errors = [error(size=0), *[error(0.01)] * 6]
  assert lengths(horizon, errors) == [0, 1, 3, 7, 12, 12, 12]


def test_adaptive_follows_the_error():
  horizon = optax_predict.horizons.adaptive(rtol=0.5)
  # (k + 1) times 0.9 sqrt(0.5 / e), from 7.
  grown = [error(0.01)] * 3
  for e in (0.3, 0.5, 1.0, 2.0):
    wanted = int(8 * 0.9 * np.sqrt(0.5 / e) - 1)
    assert lengths(horizon, [*grown, error(e)])[-1] == wanted


def test_adaptive_falls_to_none_and_recovers():
  horizon = optax_predict.horizons.adaptive()
  errors = [error(0.01)] * 4 + [error(1e6)] * 3 + [error(0.01)] * 2
  assert lengths(horizon, errors) == [1, 3, 7, 15, 2, 0, 0, 1, 3]


def test_adaptive_waits_for_a_used_window():
  horizon = optax_predict.horizons.adaptive()
  used, unused = error(0.01), error(1e6, steps=0)
  assert lengths(horizon, [used, used, unused, used]) == [1, 3, 3, 7]


def test_adaptive_does_not_grow_after_a_stopped_window():
  horizon = optax_predict.horizons.adaptive()
  stopped = error(0.01, stopped=1)
  assert lengths(horizon, [error(0.01), error(0.01), stopped]) == [1, 3, 3]


@pytest.mark.parametrize("noise", [0.95, 1.3, 2.0])
def test_adaptive_stays_off_under_noise(noise):
  horizon = optax_predict.horizons.adaptive()
  assert lengths(horizon, [error(noise, steps=0)] * 50) == [0] * 50
