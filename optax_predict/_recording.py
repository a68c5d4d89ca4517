"""At a true gradient: the forecast is scored and the next window set."""

import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _limits
from optax_predict import _parts
from optax_predict import _scoring
from optax_predict import _sums
from optax_predict._state import PredictState


def record_gradient(
  parts: _parts.Parts,
  gradients: Any,
  state: PredictState,
  params: Any = None,
  *,
  value: Any = None,
) -> PredictState:
  """``GradientPredictor.record_gradient`` of some parts."""
  _checks.check_gradients(gradients)
  moved = _parts.measured(parts, _parts.motion(parts, state, params))
  norm = _sums.norm(gradients).astype(state.gradient_norm.dtype)
  is_usable = jnp.isfinite(norm) & (state.remaining_steps >= 0)
  if moved.distance is not None:
    # There is no anchor yet at the first.
    is_usable &= jnp.isfinite(moved.distance) | (state.history_size == 0)

  def record(state):
    return _recorded(parts, gradients, moved, value, state)

  def leave_out(state):
    return _left_out(parts, norm, params, state)

  state = lax.cond(is_usable, record, leave_out, state)
  # Both stop together, at the largest integer: their difference is what was predicted.
  step_count = optax.safe_increment(state.step_count)
  has_grown = step_count - state.step_count
  return state._replace(
    step_count=step_count,
    true_gradient_count=state.true_gradient_count + has_grown,
    window_stopped=jnp.zeros([], jnp.int32),
    distance=_base.zeros(state.distance),
  )


def _recorded(parts, gradients, moved, value, state):
  forecaster, horizon = parts.forecaster, parts.horizon
  located = _parts.projected(parts, state, moved)
  history = state.gradient_history
  forecast = forecaster.predict(history, located)
  _checks.check_like("gradients", gradients, forecast.gradients)
  error, miss, size = _scoring.forecast_error(
    gradients, forecast.gradients, state, located, value
  )
  after = functools.partial(_after, error.relative_error)
  steps, horizon_state = horizon.update(error, state.horizon_state)
  excess = _limits.excess(horizon, size, error, state)
  is_wrong = error.relative_error > parts.max_error
  return state._replace(
    history_size=jnp.minimum(state.history_size + 1, forecaster.history_size),
    remaining_steps=steps,
    planned_steps=jnp.maximum(steps, 0),
    elapsed_steps=jnp.ones([], jnp.int32),
    gradient_norm=size / (1 + excess),
    excess=excess,
    reach=_limits.reach(horizon, moved.distance, horizon_state, state),
    window_length=_limits.judged_length(is_wrong, moved.params, state),
    horizon_state=horizon_state,
    gradient_history=forecaster.observe(
      after(gradients), history, located, miss
    ),
    anchor_params=after(moved.params) if parts.keeps_anchor else None,
    **_scoring.error_statistics(error, state),
  )


def _left_out(parts, norm, params, state):
  """A gradient that is not finite, or one that a rest lets through."""
  return state._replace(
    remaining_steps=jnp.where(
      state.remaining_steps < 0, state.remaining_steps + 1, 0
    ),
    planned_steps=jnp.zeros([], jnp.int32),
    elapsed_steps=optax.safe_increment(state.elapsed_steps),
    excess=jnp.zeros_like(state.excess),
    window_length=_limits.judged_length(~jnp.isfinite(norm), params, state),
  )


def _after(error, tree):
  """The tree, once the error of a forecast is known.

  Every read of the state is then before what is written to it: XLA would copy
  it otherwise.
  """
  return jax.tree.map(
    lambda x: jnp.where(error >= 0, x, jnp.zeros_like(x)), tree
  )
