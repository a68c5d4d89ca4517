"""True gradients minus forecasts, kept until the next true gradient.

``state`` is a ``PredictState`` throughout.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_predict.core import checks
from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.engine import limits
from optax_predict.engine.parts import begin_motion
from optax_predict.engine.parts import measure_motion
from optax_predict.engine.parts import Parts


def compute(
  parts: Parts, gradients: Any, state: Any, params: Any = None
) -> tuple[Any, Any]:
  """``GradientPredictor.compute_correction`` of some parts."""
  checks.check_gradients(gradients)
  moved = measure_motion(parts, begin_motion(parts, state, params))
  history = state.gradient_history
  forecast = parts.forecaster.predict(history, moved).gradients
  checks.check_like("gradients", gradients, forecast)
  correction = _found(gradients, forecast, state)
  if not parts.corrects:
    return correction, state
  return correction, _added(correction, state)


def apply(parts: Parts, gradients: Any, state: Any) -> tuple[Any, Any]:
  """``GradientPredictor.apply_correction`` of some parts."""
  if parts.is_bounded or parts.may_retreat:
    gradients = limits.shorten_gradient(gradients, state)
  if not parts.corrects:
    return gradients, state
  return _applied(parts.correction_weight, gradients, state)


def _found(gradients: Any, forecast: Any, state: Any) -> Any:
  """Gradients minus their forecast after a window; zeros anywhere else."""
  was_predicted = (state.window.elapsed_steps > 1) & (
    state.window.planned_steps > 0
  )
  correction = optax.tree.sub(
    jax.tree.map(trees.widen, gradients),
    jax.tree.map(trees.widen, forecast),
  )
  usable = was_predicted & jnp.isfinite(reductions.norm(correction))
  return trees.where(usable, correction, trees.zeros(gradients))


def _added(correction: Any, state: Any) -> Any:
  """The state with one more correction in its sum."""
  total = trees.cast_like(
    jax.tree.map(
      lambda a, c: trees.widen(a) + trees.widen(c),
      state.accumulated_correction,
      correction,
    ),
    state.accumulated_correction,
  )
  return state._replace(accumulated_correction=total)


def _applied(weight: Any, gradients: Any, state: Any) -> tuple[Any, Any]:
  """Gradients with the weighted sum, and the state without it."""
  corrected = trees.combine(
    [jnp.ones([], jnp.float32), jnp.asarray(weight, jnp.float32)],
    [gradients, state.accumulated_correction],
  )
  cleared = trees.zeros(state.accumulated_correction)
  state = state._replace(accumulated_correction=cleared)
  return trees.cast_like(corrected, gradients), state
