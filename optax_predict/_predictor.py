"""The original component's operations, as pure functions on one state."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _correction
from optax_predict import _parts
from optax_predict import _predicting
from optax_predict import _recording
from optax_predict import forecasters
from optax_predict import horizons
from optax_predict._state import get_stats
from optax_predict._state import GradientPredictor
from optax_predict._state import PredictState
from optax_predict._state import reset
from optax_predict._state import should_compute_full


def gradient_predictor(
  forecaster: _base.Forecaster | None = None,
  horizon: _base.Horizon | None = None,
  *,
  correction_weight: float = 0.0,
  accumulator_dtype: Any = None,
) -> GradientPredictor:
  """Puts a forecaster and a horizon together.

  :func:`predict_gradients` is this as an optax transformation; use the operations
  themselves where a training loop decides on its own.

  Args:
    forecaster: how gradients are predicted; default ``forecasters.secant()``.
    horizon: how many steps are predicted; default ``horizons.adaptive()``.
    correction_weight: weight of the accumulated correction; 0 keeps none.
    accumulator_dtype: floating point dtype of the bulk of the history; default
      each parameter's own.

  Returns:
    A :class:`GradientPredictor`.

  Raises:
    TypeError: if ``forecaster`` or ``horizon`` is something else.
    ValueError: if ``correction_weight`` is not finite or ``accumulator_dtype``
      is no floating point dtype.

  Examples:
    The original rule, verb for verb:

    >>> import jax.numpy as jnp
    >>> import optax_predict
    >>> predictor = optax_predict.gradient_predictor(
    ...     optax_predict.forecasters.momentum(momentum=0.9, history_size=5),
    ...     optax_predict.horizons.fixed(prediction_steps=4),
    ...     correction_weight=0.5,
    ... )
    >>> state = predictor.init(jnp.zeros(2))
    >>> pattern = ""
    >>> for _ in range(12):
    ...   if predictor.should_compute_full(state):
    ...     gradients = jnp.ones(2)
    ...     _, state = predictor.compute_correction(gradients, state)
    ...     state = predictor.record_gradient(gradients, state)
    ...     gradients, state = predictor.apply_correction(gradients, state)
    ...     pattern += "A"
    ...   else:
    ...     gradients, state = predictor.predict_gradient(state)
    ...     pattern += "."
    >>> print(pattern)
    AA....A....A
  """
  parts = build_parts(
    forecaster, horizon, correction_weight, accumulator_dtype
  )
  return GradientPredictor(
    init=functools.partial(init, parts),
    should_compute_full=should_compute_full,
    record_gradient=functools.partial(_recording.record_gradient, parts),
    predict_gradient=functools.partial(_predicting.predict_gradient, parts),
    compute_correction=functools.partial(_correction.compute, parts),
    apply_correction=functools.partial(_correction.apply, parts),
    get_stats=get_stats,
    reset=reset,
  )


def build_parts(
  forecaster: _base.Forecaster | None,
  horizon: _base.Horizon | None,
  correction_weight: Any,
  accumulator_dtype: Any,
) -> _parts.Parts:
  """The options of :func:`gradient_predictor`, checked, defaults filled in."""
  forecaster = forecasters.secant() if forecaster is None else forecaster
  horizon = horizons.adaptive() if horizon is None else horizon
  _checks.check_instance(
    "forecaster", forecaster, _base.Forecaster, "optax_predict.forecasters"
  )
  _checks.check_instance(
    "horizon", horizon, _base.Horizon, "optax_predict.horizons"
  )
  _checks.check_number("correction_weight", correction_weight)
  history_dtype = _checks.check_dtype("accumulator_dtype", accumulator_dtype)
  return _parts.Parts(forecaster, horizon, correction_weight, history_dtype)


def init(parts: _parts.Parts, params: Any) -> PredictState:
  """``GradientPredictor.init`` of some parts."""
  _checks.check_params(params)
  dtype = _base.tree_dtype(params)
  history = parts.forecaster.init(params, parts.history_dtype)

  def count():
    return jnp.zeros([], jnp.int32)

  def scalar():
    return jnp.zeros([], jnp.float32)

  def real():
    return jnp.zeros([], dtype)

  return PredictState(
    step_count=count(),
    true_gradient_count=count(),
    forecast_count=count(),
    history_size=count(),
    remaining_steps=count(),
    planned_steps=count(),
    elapsed_steps=count(),
    window_stopped=count(),
    longest_update=real() if parts.has_limits else None,
    distance=real() if parts.keeps_anchor else None,
    projection=_empty_projection(parts.forecaster, history, params),
    relative_error=scalar(),
    correlation=scalar(),
    mean_error=scalar(),
    recent_error=scalar(),
    gradient_norm=real(),
    excess=real(),
    reach=real() if parts.is_bounded else None,
    start_params=_base.zeros(params) if parts.may_retreat else None,
    window_length=real() if parts.may_retreat else None,
    horizon_state=parts.horizon.init(),
    anchor_params=_base.zeros(params) if parts.keeps_anchor else None,
    gradient_history=history,
    accumulated_correction=_base.zeros(params) if parts.corrects else None,
  )


def check_state(parts: _parts.Parts, state: Any, params: Any) -> None:
  """Refuses a state that a checkpoint or another optimizer has left."""
  if getattr(state, "anchor_params", None) is not None:
    _checks.check_like("params", params, state.anchor_params)
  made = jax.eval_shape(functools.partial(init, parts), params)
  _checks.check_state(state, made)


def _empty_projection(forecaster, history, params):
  if forecaster.project is None:
    return None
  still = _base.zeros(params)
  moved = _base.Motion(jnp.zeros([], jnp.int32), still, still)
  _, shapes = jax.eval_shape(forecaster.project, history, moved)
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
