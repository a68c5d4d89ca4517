"""How good a forecast was, and the statistics that follow from it."""

import jax.numpy as jnp
import optax

from optax_predict.core import interfaces
from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.engine.state import ForecastStatistics
from optax_predict.engine.state import Window

# A forecast can be worse than any number; statistics stay finite.
_WORST_ERROR = 1e6
# Share of the past in the running mean of the relative error.
_RECENT_DECAY = 0.9


def tell_failure(
  error: interfaces.ForecastError, window: Window
) -> interfaces.ForecastError:
  """The worst error, where a window has led to what was not finite.

  It is told with the next gradient that is. Without it the horizon would open the
  same window again. Of how far that led nothing is said.
  """
  has_failed = window.has_failed > 0
  worst = jnp.asarray(_WORST_ERROR, jnp.float32)
  return error._replace(
    relative_error=jnp.where(has_failed, worst, error.relative_error),
    window_steps=jnp.where(has_failed, 1, error.window_steps),
    growth=jnp.where(has_failed, worst, error.growth),
    slope=jnp.where(has_failed, 0, error.slope),
  )


def score_forecast(gradients, forecast, state, motion, value=None):
  """Compares forecast and true gradient.

  Returns:
    ``(error, miss, norm)``: what is said of the forecast, the norm of its
    difference to the gradient, and that of the gradient.
  """
  way = [] if motion.params is None else [(gradients, motion.displacement)]
  forecast, expected_error, _ = forecast
  miss = trees.difference(forecast, gradients)
  gg, pp, pg, dd, *along = reductions.inner_products(
    [
      (gradients, gradients),
      (forecast, forecast),
      (forecast, gradients),
      (miss, miss),
      *way,
    ]
  ).astype(state.anchor.gradient_norm.dtype)
  norm = jnp.sqrt(gg)
  scale = jnp.sqrt(norm) * jnp.sqrt(state.anchor.gradient_norm)
  relative = jnp.where(scale > 0, jnp.sqrt(dd) / scale, 1)
  if expected_error is not None:
    # Zeros stand for a forecast that is not finite, and would not look as bad.
    relative = jnp.where(jnp.isfinite(expected_error), relative, _WORST_ERROR)
  cosine = pg / jnp.sqrt(pp) / norm
  slope = along[0] / motion.distance / norm if along else jnp.zeros([])
  error = interfaces.ForecastError(
    relative_error=jnp.nan_to_num(
      jnp.minimum(relative, _WORST_ERROR), nan=_WORST_ERROR
    ).astype(jnp.float32),
    correlation=_as_cosine(cosine),
    history_size=state.history_size,
    window_steps=_window_steps(state.window),
    window_stopped=state.window.was_cut,
    growth=_growth(norm, state.anchor.gradient_norm),
    slope=_as_cosine(slope),
    way=_measure_way(motion.distance, state.window),
    loss=value,
    rested=state.look.rest,
  )
  return error, jnp.sqrt(dd), norm


def _window_steps(window):
  """Predicted steps that led to a true gradient."""
  taken = jnp.maximum(window.elapsed_steps - 1, 0)
  return jnp.where(window.planned_steps > 0, taken, 0)


def _measure_way(distance, window):
  """In updates like the first."""
  first = window.first_update
  if distance is None or first is None:
    return jnp.zeros([], jnp.float32)
  is_known = (_window_steps(window) > 0) & (first > 0)
  way = jnp.where(is_known, distance / jnp.where(is_known, first, 1), 0)
  largest = jnp.finfo(jnp.float32).max
  return jnp.minimum(way, largest).astype(jnp.float32)


def _as_cosine(x):
  x = jnp.nan_to_num(x, nan=0, posinf=0, neginf=0)
  return jnp.clip(x, -1, 1).astype(jnp.float32)


def _growth(norm, last):
  ratio = jnp.where(last > 0, norm / jnp.where(last > 0, last, 1), 1)
  return jnp.minimum(ratio, _WORST_ERROR).astype(jnp.float32)


def update_statistics(
  error: interfaces.ForecastError, statistics: ForecastStatistics
) -> ForecastStatistics:
  """Adds what a true gradient says of its forecast, if there was one."""
  count = optax.safe_increment(statistics.forecasts)
  e, mean = error.relative_error, statistics.mean_error
  fading = optax.incremental_update(
    e, statistics.recent_error, 1 - _RECENT_DECAY
  )
  updated = ForecastStatistics(
    forecasts=count,
    relative_error=e,
    correlation=error.correlation,
    mean_error=mean + (e - mean) / count.astype(jnp.float32),
    recent_error=jnp.where(statistics.forecasts > 0, fading, e),
  )
  return optax.tree.where(error.history_size > 0, updated, statistics)
