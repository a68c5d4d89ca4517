"""The original component's operations, as pure functions on one state."""

import functools
from typing import Any

from optax_predict import forecasters
from optax_predict import horizons
from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.engine import correction
from optax_predict.engine import initial
from optax_predict.engine import predicting
from optax_predict.engine import recording
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import get_stats
from optax_predict.engine.state import GradientPredictor
from optax_predict.engine.state import reset
from optax_predict.engine.state import should_compute_full


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
    init=functools.partial(initial.init_state, parts),
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
