"""Between true gradients: forecasts, and how far they are trusted."""

from typing import Any

import jax.numpy as jnp
import optax

from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.engine import limits
from optax_predict.engine.parts import begin_motion
from optax_predict.engine.parts import Parts
from optax_predict.engine.parts import project_motion
from optax_predict.engine.state import PredictState


def look_ahead(
  parts: Parts, state: PredictState, params: Any = None
) -> PredictState:
  """``GradientPredictor.look_ahead`` of some parts."""
  horizon = parts.horizon
  moved, _, expected_error = _forecast(parts, state, params)
  is_finite = jnp.isfinite(expected_error)
  ends = ~is_finite | limits.is_too_far(
    horizon, moved.distance, expected_error, state
  )
  distance: Any = limits.finite(moved.distance) if parts.keeps_anchor else None
  longest_update = state.longest_update
  if parts.has_limits:
    longest_update = limits.longest_update(horizon, distance, state)
  return state._replace(
    longest_update=longest_update,
    distance=distance,
    projection=moved.projection,
    remaining_steps=jnp.where(ends, 0, state.remaining_steps),
    window_stopped=jnp.where(is_finite, state.window_stopped, 1),
  )


def predict_prepared(
  parts: Parts, state: PredictState, params: Any = None
) -> tuple[Any, PredictState]:
  """``GradientPredictor.predict_prepared`` of some parts."""
  moved = begin_motion(parts, state, params)._replace(
    distance=state.distance, projection=state.projection
  )
  gradients, _ = parts.forecaster.predict(state.gradient_history, moved)
  return gradients, state._replace(
    step_count=optax.safe_increment(state.step_count),
    elapsed_steps=optax.safe_increment(state.elapsed_steps),
    remaining_steps=jnp.maximum(state.remaining_steps - 1, 0),
  )


def predict_gradient(
  parts: Parts,
  state: PredictState,
  params: Any = None,
  *,
  may_refuse: bool = False,
) -> tuple[Any, PredictState]:
  """``GradientPredictor.predict_gradient`` of some parts."""
  horizon = parts.horizon
  moved, gradients, expected_error = _forecast(parts, state, params)
  is_finite = jnp.isfinite(expected_error)
  is_unsure = limits.is_too_far(horizon, moved.distance, expected_error, state)
  scale = jnp.ones_like(state.gradient_norm)
  is_too_long = jnp.zeros([], bool)
  longest_update = state.longest_update
  distance: Any = limits.finite(moved.distance) if parts.keeps_anchor else None
  if parts.has_limits:
    longest_update = limits.longest_update(horizon, distance, state)
    # No update is shorter than the distance it added.
    is_too_long = distance - state.distance > longest_update
    if not may_refuse:
      longest = limits.growth(horizon) * state.gradient_norm
      size = reductions.norm(gradients)
      scale = jnp.where(size > longest, longest / size, scale)
      is_too_long |= scale < 1
  is_taken = jnp.ones([], bool)
  if may_refuse:
    is_taken = is_finite & ~is_unsure
  remaining = jnp.maximum(state.remaining_steps - 1, 0)
  ends = is_unsure | is_too_long | ~is_finite
  state = state._replace(
    step_count=_add(state.step_count, is_taken),
    elapsed_steps=_add(state.elapsed_steps, is_taken),
    remaining_steps=jnp.where(ends, 0, remaining),
    window_stopped=(is_too_long | ~is_finite).astype(jnp.int32),
    longest_update=longest_update,
    distance=distance,
    projection=moved.projection,
    window_length=limits.kept_length(state),
  )
  return trees.scaled(jnp.where(is_finite, scale, 0), gradients), state


def _forecast(parts, state, params):
  """The motion, the forecast there, and the error to expect of it."""
  moved = begin_motion(parts, state, params)
  moved = project_motion(parts, state, moved)
  gradients, expected_error = parts.forecaster.predict(
    state.gradient_history, moved
  )
  if expected_error is None:
    # Without an estimate: whether it is finite.
    is_finite = jnp.isfinite(reductions.norm(gradients))
    expected_error = jnp.where(is_finite, 0, jnp.inf)
  return moved, gradients, expected_error


def _add(count, condition):
  """Counts up, where the condition holds, to the largest number at most."""
  return jnp.where(condition, optax.safe_increment(count), count)
