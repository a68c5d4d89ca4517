"""Between true gradients: forecasts, and how far they are trusted."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_predict.core import interfaces
from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.engine import limits
from optax_predict.engine.parts import begin_motion
from optax_predict.engine.parts import Parts
from optax_predict.engine.parts import project_motion
from optax_predict.engine.state import PredictState
from optax_predict.engine.state import Window


def look_ahead(
  parts: Parts, state: PredictState, params: Any
) -> tuple[Window, interfaces.Forecast]:
  """The next step's forecast; ends the window if it is expected to be poor.

  Or may not be finite.
  """
  moved, forecast = _forecast(parts, state, params)
  window = judge_forecast(parts, state, moved.distance, forecast.expected_error)
  return window, forecast


def judge_forecast(
  parts: Parts, state: PredictState, distance: Any, expected_error: jax.Array
) -> Window:
  """The window before a step; over, if its forecast is expected to be poor."""
  window = state.window
  is_finite = jnp.isfinite(expected_error)
  ends = ~is_finite | limits.is_too_far(
    parts.horizon, distance, expected_error, state
  )
  if parts.has_limits:
    # A step that is lost in rounding leads nowhere, however many follow. Later in a
    # window, one that is back where it began goes on: a step of Lion undoes the last.
    ends |= (distance <= 0) & (window.elapsed_steps <= 1)
  return _set_lengths(parts, distance, window)._replace(
    remaining_steps=jnp.where(ends, 0, window.remaining_steps),
    was_cut=jnp.where(is_finite, window.was_cut, 1),
  )


def forecast_unseen(parts: Parts, state: PredictState, params: Any) -> Any:
  """The next step's forecast where no look at it can end a window."""
  moved = begin_motion(parts, state, params)
  return parts.forecaster.predict(state.gradient_history, moved).gradients


def predict_gradient(
  parts: Parts,
  state: PredictState,
  params: Any = None,
  *,
  may_refuse: bool = False,
) -> tuple[Any, PredictState]:
  """``GradientPredictor.predict_gradient`` of some parts.

  A caller that can leave a step out sets ``may_refuse``: a forecast that is not
  finite or expected to be poor is then not counted as a step, and none is scaled.
  """
  window, horizon = state.window, parts.horizon
  moved, forecast = _forecast(parts, state, params)
  gradients, expected_error, _ = forecast
  is_finite = jnp.isfinite(expected_error)
  is_unsure = limits.is_too_far(horizon, moved.distance, expected_error, state)
  norm = state.anchor.gradient_norm
  scale = jnp.ones_like(norm)
  is_too_long = jnp.zeros([], bool)
  lengths = _set_lengths(parts, moved.distance, window)
  if parts.has_limits:
    # No update is shorter than the distance it added.
    added = lengths.distance - window.distance
    is_too_long = added > lengths.longest_update
    if not may_refuse:
      longest = limits.max_growth(horizon) * norm
      size = reductions.norm(gradients)
      scale = jnp.where(size > longest, longest / size, scale)
      is_too_long |= scale < 1
  is_taken = jnp.ones([], bool)
  if may_refuse:
    is_taken = is_finite & ~is_unsure
  remaining = jnp.maximum(window.remaining_steps - 1, 0)
  ends = is_unsure | is_too_long | ~is_finite
  retreat = state.retreat
  if retreat is not None:
    # Nobody takes this window back.
    retreat = retreat._replace(is_due=jnp.zeros_like(retreat.is_due))
  state = state._replace(
    step_count=_increment(state.step_count, is_taken),
    window=lengths._replace(
      elapsed_steps=_increment(window.elapsed_steps, is_taken),
      remaining_steps=jnp.where(ends, 0, remaining),
      was_cut=(is_too_long | ~is_finite).astype(jnp.int32),
    ),
    retreat=retreat,
  )
  return trees.scaled(jnp.where(is_finite, scale, 0), gradients), state


def _forecast(parts, state, params):
  """The motion, and the forecast there with the error to expect of it."""
  moved = begin_motion(parts, state, params)
  moved = project_motion(parts, state, moved)
  forecast = parts.forecaster.predict(state.gradient_history, moved)
  if forecast.expected_error is None:
    # Without an estimate: whether it is finite.
    is_finite = jnp.isfinite(reductions.norm(forecast.gradients))
    forecast = forecast._replace(
      expected_error=jnp.where(is_finite, 0, jnp.inf)
    )
  return moved, forecast


def _set_lengths(parts, distance, window):
  """How far the window has led, and how long updates in it are and may be."""
  if not parts.keeps_anchor:
    return window
  distance = limits.make_finite(distance)
  if parts.has_limits:
    window = limits.set_updates(parts.horizon, distance, window)
  return window._replace(distance=distance)


def _increment(count: jax.Array, condition: jax.Array) -> jax.Array:
  """Counts up, where the condition holds, to the largest number at most."""
  return jnp.where(condition, optax.safe_increment(count), count)
