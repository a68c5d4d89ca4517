"""The original component's operations, as pure functions on one state."""

import functools
import math
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _correction
from optax_predict import _limits
from optax_predict import _scoring
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
    The original rule, verb for verb; it has no limit for ``limit_gradient`` to
    keep:

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
  has_limits = (horizon.max_growth, horizon.max_expected_error) != (None, None)
  is_bounded = horizon.max_growth is not None
  may_retreat = horizon.max_error is not None
  max_error = math.inf if horizon.max_error is None else horizon.max_error
  keeps_anchor = forecaster.needs_params or has_limits or may_retreat
  corrects = not (
    isinstance(correction_weight, (int, float)) and correction_weight == 0
  )

  def init(params):
    _checks.check_params(params)
    dtype = _base.tree_dtype(params)
    history = forecaster.init(params, history_dtype)

    def count():
      return jnp.zeros([], jnp.int32)

    def scalar():
      return jnp.zeros([], jnp.float32)

    return PredictState(
      step_count=count(),
      true_gradient_count=count(),
      forecast_count=count(),
      history_size=count(),
      remaining_steps=count(),
      planned_steps=count(),
      elapsed_steps=count(),
      window_stopped=count(),
      longest_update=jnp.zeros([], dtype) if has_limits else None,
      distance=jnp.zeros([], dtype) if keeps_anchor else None,
      projection=empty_projection(history, params),
      relative_error=scalar(),
      correlation=scalar(),
      mean_error=scalar(),
      recent_error=scalar(),
      gradient_norm=jnp.zeros([], dtype),
      excess=jnp.zeros([], dtype),
      reach=jnp.zeros([], dtype) if is_bounded else None,
      start_params=_base.zeros(params) if may_retreat else None,
      window_length=jnp.zeros([], dtype) if may_retreat else None,
      is_rejected=count() if may_retreat else None,
      horizon_state=horizon.init(),
      anchor_params=_base.zeros(params) if keeps_anchor else None,
      gradient_history=history,
      accumulated_correction=_base.zeros(params) if corrects else None,
    )

  def empty_projection(history, params):
    if forecaster.project is None:
      return None
    still = _base.zeros(params)
    moved = _base.Motion(jnp.zeros([], jnp.int32), still, still)
    _, shapes = jax.eval_shape(forecaster.project, history, moved)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

  def motion(state, params):
    if not keeps_anchor:
      return _base.Motion(state.elapsed_steps)
    _checks.check_present("params", params)
    _checks.check_like("params", params, state.anchor_params)
    return _base.Motion(state.elapsed_steps, params, state.anchor_params)

  def measured(moved):
    if not keeps_anchor:
      return moved
    return moved._replace(distance=_base.norm(moved.displacement))

  def projected(state, moved):
    """With all that takes a pass over the history."""
    if forecaster.project is None:
      return moved if moved.distance is not None else measured(moved)
    moved = moved._replace(distance=None)
    distance, projection = forecaster.project(state.gradient_history, moved)
    return moved._replace(distance=distance, projection=projection)

  def limit_gradient(gradients, state):
    return gradients if not is_bounded else _limits.shortened(gradients, state)

  def record_gradient(gradients, state, params=None, *, value=None):
    _checks.check_gradients(gradients)
    moved = measured(motion(state, params))
    norm = _base.norm(gradients).astype(state.gradient_norm.dtype)
    is_usable = jnp.isfinite(norm) & (state.remaining_steps >= 0)
    if keeps_anchor:
      # There is no anchor yet at the first.
      is_usable &= jnp.isfinite(moved.distance) | (state.history_size == 0)

    def rejected(is_wrong, state):
      if not may_retreat:
        return None
      is_ours = _limits.is_at_window_end(params, state)
      return (is_ours & is_wrong).astype(jnp.int32)

    def record(state):
      located = projected(state, moved)
      history = state.gradient_history
      forecast = forecaster.predict(history, located)
      _checks.check_like("gradients", gradients, forecast.gradients)
      error, size = _scoring.forecast_error(
        gradients, forecast.gradients, state, located, value
      )
      after = functools.partial(_after, error.relative_error)
      steps, horizon_state = horizon.update(error, state.horizon_state)
      excess = _limits.excess(horizon, size, error, state)
      return state._replace(
        history_size=jnp.minimum(
          state.history_size + 1, forecaster.history_size
        ),
        remaining_steps=steps,
        planned_steps=jnp.maximum(steps, 0),
        elapsed_steps=jnp.ones([], jnp.int32),
        gradient_norm=size / (1 + excess),
        excess=excess,
        reach=_limits.reach(horizon, moved.distance, state),
        is_rejected=rejected(error.relative_error > max_error, state),
        horizon_state=horizon_state,
        gradient_history=forecaster.observe(
          after(gradients), history, located, forecast
        ),
        anchor_params=after(params) if keeps_anchor else None,
        **_scoring.error_statistics(error, state),
      )

    def leave_out(state):
      return state._replace(
        remaining_steps=jnp.where(
          state.remaining_steps < 0, state.remaining_steps + 1, 0
        ),
        planned_steps=jnp.zeros([], jnp.int32),
        elapsed_steps=optax.safe_increment(state.elapsed_steps),
        excess=jnp.zeros_like(state.excess),
        is_rejected=rejected(~jnp.isfinite(norm), state),
      )

    state = lax.cond(is_usable, record, leave_out, state)
    return state._replace(
      step_count=optax.safe_increment(state.step_count),
      true_gradient_count=optax.safe_increment(state.true_gradient_count),
      window_stopped=jnp.zeros([], jnp.int32),
      window_length=jnp.zeros_like(state.window_length)
      if may_retreat
      else None,
      distance=jnp.zeros_like(state.distance) if keeps_anchor else None,
    )

  def look_ahead(state, params=None):
    moved = projected(state, motion(state, params))
    gradients, expected_error = forecaster.predict(
      state.gradient_history, moved
    )
    expected_error = _known_error(gradients, expected_error)
    is_finite = jnp.isfinite(expected_error)
    ends = ~is_finite | _limits.is_too_far(
      horizon, moved.distance, expected_error, state
    )
    distance: Any = _limits.finite(moved.distance) if keeps_anchor else None
    longest_update = state.longest_update
    if has_limits:
      longest_update = _limits.longest_update(horizon, distance, state)
    return state._replace(
      longest_update=longest_update,
      distance=distance,
      projection=moved.projection,
      remaining_steps=jnp.where(ends, 0, state.remaining_steps),
      window_stopped=jnp.where(is_finite, state.window_stopped, 1),
    )

  def predict_prepared(state, params=None):
    moved = motion(state, params)._replace(
      distance=state.distance, projection=state.projection
    )
    gradients, _ = forecaster.predict(state.gradient_history, moved)
    return gradients, state._replace(
      step_count=optax.safe_increment(state.step_count),
      elapsed_steps=optax.safe_increment(state.elapsed_steps),
      remaining_steps=jnp.maximum(state.remaining_steps - 1, 0),
    )

  def predict_gradient(state, params=None, *, may_refuse=False):
    moved = projected(state, motion(state, params))
    gradients, expected_error = forecaster.predict(
      state.gradient_history, moved
    )
    expected_error = _known_error(gradients, expected_error)
    is_finite = jnp.isfinite(expected_error)
    is_unsure = _limits.is_too_far(
      horizon, moved.distance, expected_error, state
    )
    scale = jnp.ones_like(state.gradient_norm)
    is_too_long = jnp.zeros([], bool)
    longest_update = state.longest_update
    distance: Any = _limits.finite(moved.distance) if keeps_anchor else None
    if has_limits:
      longest_update = _limits.longest_update(horizon, distance, state)
      # No update is shorter than the distance it added.
      is_too_long = distance - state.distance > longest_update
      if not may_refuse:
        longest = _limits.growth(horizon) * state.gradient_norm
        size = _base.norm(gradients)
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
      is_rejected=jnp.zeros([], jnp.int32) if may_retreat else None,
    )
    return _scale(jnp.where(is_finite, scale, 0), gradients), state

  def compute_correction(gradients, state, params=None):
    _checks.check_gradients(gradients)
    moved = measured(motion(state, params))
    forecast = forecaster.predict(state.gradient_history, moved).gradients
    _checks.check_like("gradients", gradients, forecast)
    correction = _correction.found(gradients, forecast, state)
    if not corrects:
      return correction, state
    return correction, _correction.added(correction, state)

  def apply_correction(gradients, state):
    if not corrects:
      return gradients, state
    return _correction.applied(correction_weight, gradients, state)

  return GradientPredictor(
    init=init,
    should_compute_full=should_compute_full,
    record_gradient=record_gradient,
    predict_gradient=predict_gradient,
    look_ahead=look_ahead,
    predict_prepared=predict_prepared,
    limit_gradient=limit_gradient,
    compute_correction=compute_correction,
    apply_correction=apply_correction,
    get_stats=get_stats,
    reset=reset,
  )


def _known_error(gradients, expected_error):
  """The error to expect; without an estimate, whether a forecast is finite."""
  if expected_error is not None:
    return expected_error
  return jnp.where(jnp.isfinite(_base.norm(gradients)), 0, jnp.inf)


def _after(error, tree):
  """The tree, once the error of a forecast is known.

  Every read of the state is then before what is written to it: XLA would copy
  it otherwise.
  """
  return jax.tree.map(
    lambda x: jnp.where(error >= 0, x, jnp.zeros_like(x)), tree
  )


def _scale(scale, tree):
  """Scales a tree; 0 gives zeros whatever the tree holds."""
  scaled = jax.tree.map(
    lambda x: _base.widen(x) * scale.astype(_base.wide_dtype(x)), tree
  )
  return _base.where(scale > 0, scaled, _base.zeros(tree))


def _add(count, condition):
  """Counts up, where the condition holds, to the largest number at most."""
  return jnp.where(condition, optax.safe_increment(count), count)
