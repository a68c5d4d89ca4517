"""True gradients minus forecasts, kept until the next true gradient.

``state`` is a ``PredictState`` throughout.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _limits
from optax_predict import _parts
from optax_predict import _sums


def compute(
  parts: _parts.Parts, gradients: Any, state: Any, params: Any = None
) -> tuple[Any, Any]:
  """``GradientPredictor.compute_correction`` of some parts."""
  _checks.check_gradients(gradients)
  moved = _parts.measured(parts, _parts.motion(parts, state, params))
  history = state.gradient_history
  forecast = parts.forecaster.predict(history, moved).gradients
  _checks.check_like("gradients", gradients, forecast)
  correction = _found(gradients, forecast, state)
  if not parts.corrects:
    return correction, state
  return correction, _added(correction, state)


def apply(
  parts: _parts.Parts, gradients: Any, state: Any
) -> tuple[Any, Any]:
  """``GradientPredictor.apply_correction`` of some parts."""
  if parts.is_bounded or parts.may_retreat:
    gradients = _limits.shortened(gradients, state)
  if not parts.corrects:
    return gradients, state
  return _applied(parts.correction_weight, gradients, state)


def _found(gradients: Any, forecast: Any, state: Any) -> Any:
  """Gradients minus their forecast after a window; zeros anywhere else."""
  was_predicted = (state.elapsed_steps > 1) & (state.planned_steps > 0)
  correction = optax.tree.sub(
    jax.tree.map(_base.widen, gradients),
    jax.tree.map(_base.widen, forecast),
  )
  usable = was_predicted & jnp.isfinite(_sums.norm(correction))
  return _base.where(usable, correction, _base.zeros(gradients))


def _added(correction: Any, state: Any) -> Any:
  """The state with one more correction in its sum."""
  total = _base.cast_like(
    jax.tree.map(
      lambda a, c: _base.widen(a) + _base.widen(c),
      state.accumulated_correction,
      correction,
    ),
    state.accumulated_correction,
  )
  return state._replace(accumulated_correction=total)


def _applied(weight: Any, gradients: Any, state: Any) -> tuple[Any, Any]:
  """Gradients with the weighted sum, and the state without it."""
  corrected = _base.combine(
    [jnp.ones([], jnp.float32), jnp.asarray(weight, jnp.float32)],
    [gradients, state.accumulated_correction],
  )
  cleared = _base.zeros(state.accumulated_correction)
  state = state._replace(accumulated_correction=cleared)
  return _base.cast_like(corrected, gradients), state
