"""How good a forecast was, and the statistics that follow from it."""

import jax.numpy as jnp
import optax

from optax_predict.core import interfaces
from optax_predict.core import reductions
from optax_predict.core import trees

# A forecast can be worse than any number; statistics stay finite.
_WORST_ERROR = 1e6
# Share of the past in the running mean of the relative error.
_RECENT_DECAY = 0.9


def forecast_error(gradients, forecast, state, motion, value=None):
  """Compares forecast and true gradient.

  Returns:
    ``(error, miss, norm)``: what is said of the forecast, the norm of its
    difference to the gradient, and that of the gradient.
  """
  way = [] if motion.params is None else [(gradients, motion.displacement)]
  miss = trees.difference(forecast, gradients)
  gg, pp, pg, dd, *along = reductions.inner_products(
    [
      (gradients, gradients),
      (forecast, forecast),
      (forecast, gradients),
      (miss, miss),
      *way,
    ]
  ).astype(state.gradient_norm.dtype)
  norm = jnp.sqrt(gg)
  scale = jnp.sqrt(norm) * jnp.sqrt(state.gradient_norm)
  relative = jnp.where(scale > 0, jnp.sqrt(dd) / scale, 1)
  cosine = pg / jnp.sqrt(pp) / norm
  slope = along[0] / motion.distance / norm if along else jnp.zeros([])
  error = interfaces.ForecastError(
    relative_error=jnp.nan_to_num(
      jnp.minimum(relative, _WORST_ERROR), nan=_WORST_ERROR
    ).astype(jnp.float32),
    correlation=_as_cosine(cosine),
    history_size=state.history_size,
    window_steps=jnp.where(
      state.planned_steps > 0, jnp.maximum(state.elapsed_steps - 1, 0), 0
    ),
    window_stopped=state.window_stopped,
    growth=_growth(norm, state.gradient_norm),
    slope=_as_cosine(slope),
    loss=None if value is None else jnp.asarray(value, jnp.float32),
  )
  return error, jnp.sqrt(dd), norm


def _as_cosine(x):
  x = jnp.nan_to_num(x, nan=0, posinf=0, neginf=0)
  return jnp.clip(x, -1, 1).astype(jnp.float32)


def _growth(norm, last):
  ratio = jnp.where(last > 0, norm / jnp.where(last > 0, last, 1), 1)
  return jnp.minimum(ratio, _WORST_ERROR).astype(jnp.float32)


def error_statistics(error, state):
  """The fields of the state that follow the errors of forecasts."""
  is_forecast = error.history_size > 0
  count = optax.safe_increment(state.forecast_count)
  e = error.relative_error
  mean = state.mean_error + (e - state.mean_error) / count.astype(jnp.float32)
  fading = optax.incremental_update(e, state.recent_error, 1 - _RECENT_DECAY)
  recent = jnp.where(state.forecast_count > 0, fading, e)
  updated = dict(
    forecast_count=count,
    relative_error=e,
    correlation=error.correlation,
    mean_error=mean,
    recent_error=recent,
  )
  kept = {name: getattr(state, name) for name in updated}
  return optax.tree.where(is_forecast, updated, kept)
