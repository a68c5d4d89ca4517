"""How the secant forecaster blends its model with the mean of the last gradients.

``history`` is a ``SecantHistory`` throughout.
"""

import jax.numpy as jnp

from optax_predict import _base

# Share of the past in the running means that calibrate forecasts.
DECAY = 0.7
# True gradients in the mean that a forecast is blended with.
MEAN_OF = 5
# A forecast off by more than so many gradients counts as off by so many: one
# outlier would spoil the running means for long.
OUTLIER = 10.0


def tiny(like):
  """The smallest normal number of a dtype."""
  return jnp.finfo(like.dtype).tiny


def mean_weights(history):
  """Weights of Y in the mean of the last gradients, beside last_gradient."""
  m = history.lengths.size
  count = jnp.minimum(jnp.minimum(history.pairs, m) + 1, MEAN_OF)
  age = (history.pairs - 1 - jnp.arange(m)) % m
  dtype = history.lengths.dtype
  share = jnp.maximum(count - 1 - age, 0).astype(dtype) / count.astype(dtype)
  return -history.lengths * share


def weights(moments):
  """Weights (a, b) of the model and the mean that would have fitted best.

  Least squares over past forecasts, with a ridge towards (1, 0).
  """
  pp, pq, qq, pg, qg = moments
  ridge = 0.15 * (pp + qq)
  aa, bb = pp + ridge, qq + ridge
  determinant = aa * bb - pq * pq
  is_known = determinant > 0
  safe = jnp.where(is_known, determinant, 1)
  a = (bb * (pg + ridge) - pq * qg) / safe
  b = (aa * qg - pq * (pg + ridge)) / safe
  return jnp.where(is_known, a, 1), jnp.where(is_known, b, 0)


def moments(history, gradients, forecast, is_pair):
  """Inner products of model p, mean q and gradient g, relative to |g|^2."""
  one = jnp.ones_like(history.lengths[0])
  mean = mean_weights(history)
  q = _base.combine([one, *mean], [history.last_gradient, *history.changes])
  a, b = weights(history.moments)
  f = forecast.gradients
  ff, fq, qq, fg, qg, gg = _base.inner_products(
    [
      (f, f),
      (f, q),
      (q, q),
      (f, gradients),
      (q, gradients),
      (gradients, gradients),
    ]
  )
  # The forecast was f = a p + b q.
  inv = jnp.where(jnp.abs(a) > 1e-3, 1 / a, 0)
  pp = inv * inv * (ff - 2 * b * fq + b * b * qq)
  pq = inv * (fq - b * qq)
  pg = inv * (fg - b * qg)
  gg = jnp.maximum(gg, jnp.maximum(pp, qq) / OUTLIER**2)
  new = jnp.stack([pp, pq, qq, pg, qg]) / jnp.maximum(gg, tiny(gg))
  updated = DECAY * history.moments + (1 - DECAY) * new
  is_known = is_pair & (inv != 0) & jnp.all(jnp.isfinite(updated))
  return jnp.where(is_known, updated, history.moments)
