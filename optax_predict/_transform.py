"""Gradient prediction as an optax gradient transformation."""

from typing import Any

from jax import lax
import optax

from optax_predict import _base
from optax_predict import _checks
from optax_predict._predictor import gradient_predictor


def predict_gradients(
    forecaster: _base.Forecaster | None = None,
    horizon: _base.Horizon | None = None,
    *,
    correction_weight: float = 0.0,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
  """TODO"""
  predictor = gradient_predictor(
      forecaster,
      horizon,
      correction_weight=correction_weight,
      accumulator_dtype=accumulator_dtype,
  )

  def actual(gradients, state, params):
    _, state = predictor.compute_correction(gradients, state, params)
    state = predictor.record_gradient(gradients, state, params)
    return predictor.apply_correction(gradients, state)

  def predicted(gradients, state, params, may_refuse=False):
    forecast, state = predictor.predict_gradient(
        state, params, may_refuse=may_refuse
    )
    return _base.cast_like(forecast, gradients), state

  def update(
      updates, state, params=None, *, is_predicted_step=None, **extra_args
  ):
    del extra_args
    if is_predicted_step is True:
      return predicted(updates, state, params, may_refuse=True)
    return lax.cond(
        predictor.should_compute_full(state),
        actual,
        predicted,
        updates,
        state,
        params,
    )

  return optax.GradientTransformationExtraArgs(predictor.init, update)
