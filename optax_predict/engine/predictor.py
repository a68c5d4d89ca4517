"""The original component's operations, as pure functions on one state."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from optax_predict import forecasters
from optax_predict import horizons
from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.core import trees
from optax_predict.engine import correction
from optax_predict.engine import predicting
from optax_predict.engine import recording
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import Anchor
from optax_predict.engine.state import ForecastStatistics
from optax_predict.engine.state import get_stats
from optax_predict.engine.state import GradientPredictor
from optax_predict.engine.state import PredictState
from optax_predict.engine.state import reset
from optax_predict.engine.state import Retreat
from optax_predict.engine.state import should_compute_full
from optax_predict.engine.state import Window


def gradient_predictor(
  forecaster: interfaces.Forecaster | None = None,
  horizon: interfaces.Horizon | None = None,
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
  parts = build_parts(forecaster, horizon, correction_weight, accumulator_dtype)
  return GradientPredictor(
    init=functools.partial(init_state, parts),
    should_compute_full=should_compute_full,
    record_gradient=functools.partial(recording.record_gradient, parts),
    predict_gradient=functools.partial(predicting.predict_gradient, parts),
    compute_correction=functools.partial(correction.compute, parts),
    apply_correction=functools.partial(correction.apply, parts),
    get_stats=get_stats,
    reset=reset,
  )


def build_parts(
  forecaster: interfaces.Forecaster | None,
  horizon: interfaces.Horizon | None,
  correction_weight: Any,
  accumulator_dtype: Any,
) -> Parts:
  """The options of :func:`gradient_predictor`, checked, defaults filled in."""
  forecaster = forecasters.secant() if forecaster is None else forecaster
  horizon = horizons.adaptive() if horizon is None else horizon
  checks.check_instance(
    "forecaster", forecaster, interfaces.Forecaster, "optax_predict.forecasters"
  )
  checks.check_instance(
    "horizon", horizon, interfaces.Horizon, "optax_predict.horizons"
  )
  checks.check_number("correction_weight", correction_weight)
  history_dtype = checks.check_dtype("accumulator_dtype", accumulator_dtype)
  return Parts(forecaster, horizon, correction_weight, history_dtype)


def init_state(parts: Parts, params: Any) -> PredictState:
  """``GradientPredictor.init`` of some parts."""
  checks.check_params(params)
  dtype = trees.tree_dtype(params)
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
    rest_steps=count(),
    gradient_history=history,
    history_size=count(),
    anchor=Anchor(
      params=trees.zeros(params) if parts.keeps_anchor else None,
      gradient_norm=real(),
      excess=real(),
    ),
    accumulated_correction=trees.zeros(params) if parts.corrects else None,
    horizon_state=parts.horizon.init(),
    window=Window(
      planned_steps=count(),
      remaining_steps=count(),
      elapsed_steps=count(),
      was_cut=count(),
      reach=real() if parts.is_bounded else None,
      longest_update=real() if parts.has_limits else None,
      distance=real() if parts.keeps_anchor else None,
    ),
    retreat=Retreat(trees.zeros(params), real(), count())
    if parts.may_retreat
    else None,
    statistics=ForecastStatistics(
      count(), scalar(), scalar(), scalar(), scalar()
    ),
  )


def check_state(parts: Parts, state: Any, params: Any) -> None:
  """Refuses a state that a checkpoint or another optimizer has left."""
  if isinstance(state, PredictState) and state.anchor.params is not None:
    checks.check_like("params", params, state.anchor.params)
  made = jax.eval_shape(functools.partial(init_state, parts), params)
  checks.check_state(state, made)
