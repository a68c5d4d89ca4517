"""What each of the secant forecaster's candidates would have predicted.

All of it is algebra of m numbers: a forecast is a sum over what the history
holds, and its error follows from inner products that are known anyway.
``history`` is a ``SecantHistory`` throughout.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Share of the past in the running means that rate candidates and calibrate
# forecasts.
DECAY = 0.7
# A forecast off by more than so many gradients counts as off by so many: one
# outlier would spoil the running means for long.
WORST = 1.5
OUTLIER = 10.0
# How much a fitted stiffness is drawn to what it is before there is a fit.
_PRIOR = 0.15
# Beyond this a pair is of no use, whatever its ridge.
_FARTHEST = 1e10


class Weights(NamedTuple):
  """A forecast less the last gradient, as a sum.

  Attributes:
    on_changes: of the changes y_j, ``[m]``.
    on_displacements: of the displacements s_j, ``[m]``.
    on_motion: of the displacement d from the last true gradient, ``[]``.
  """

  on_changes: jax.Array
  on_displacements: jax.Array
  on_motion: jax.Array


class Products(NamedTuple):
  """Inner products of the pairs with a motion d and the change y along it.

  Attributes:
    s_d: ``[m]``, s_j . d.
    y_d: ``[m]``, y_j . d.
    s_y: ``[m]``, s_j . y.
    y_y: ``[m]``, y_j . y.
    d_d: ``[]``, d . d.
    d_y: ``[]``, d . y.
    square: ``[]``, y . y.
  """

  s_d: jax.Array
  y_d: jax.Array
  s_y: jax.Array
  y_y: jax.Array
  d_d: jax.Array
  d_y: jax.Array
  square: jax.Array


def tiny(like):
  """The smallest normal number of a dtype."""
  return jnp.finfo(like.dtype).tiny


def largest_curvature(history):
  """L, the largest |y_j|."""
  return jnp.sqrt(jnp.max(jnp.diagonal(history.change_gram)))


def ages(pairs, memory):
  """For each slot, how many pairs came after it."""
  return (pairs - 1 - jnp.arange(memory)) % memory


def ridges(staleness, ridge, age, lengths, gram):
  """The ridge of every pair, for each candidate, ``[n, m]``.

  The curvature that a pair has seen is that of the middle of its move. How far
  that is from where the run is now follows from the moves since.
  """
  newest = jnp.max(jnp.where(age == 0, lengths, 0))
  lengths = lengths / jnp.maximum(newest, tiny(newest))
  since = jnp.where(age[None, :] < age[:, None], lengths[None, :], 0)
  since += jnp.diag(lengths) / 2
  square = jnp.nan_to_num(jnp.sum((since @ gram) * since, 1), nan=_FARTHEST)
  return ridge + staleness[:, None] * jnp.clip(square, 0, _FARTHEST)


def stiffness(fit, damping, history):
  """What r is multiplied by: the best number for past forecasts, in [0, L].

  Least squares, with a ridge towards ``damping`` times L.
  """
  largest = largest_curvature(history)
  explained, size = fit
  is_known = size > 0
  total = explained + _PRIOR * size * damping * largest
  fitted = total / jnp.where(is_known, (1 + _PRIOR) * size, 1)
  fitted = jnp.where(is_known, fitted, damping * largest)
  return jnp.clip(fitted, 0, largest)


def squared_remainder(c, s_d, d_d, history):
  """|r|^2, for r = d - S^T c."""
  return jnp.maximum(d_d - 2 * c @ s_d + c @ history.gram @ c, 0)


def error(weights, products, history):
  """Norm of the change that was predicted less the one that came."""
  a, b, w = weights
  p = products
  square = (
    a @ history.change_gram @ a
    + b @ history.gram @ b
    + w * w * p.d_d
    + p.square
    + 2 * (a @ history.cross @ b + w * (a @ p.y_d + b @ p.s_d))
    - 2 * (a @ p.y_y + b @ p.s_y + w * p.d_y)
  )
  return jnp.sqrt(jnp.maximum(square, 0))


def fit(c, t, products, history):
  """What the fit of the stiffness needs: r . (y - Y^T c - S^T t), and r . r."""
  p = products
  on_change = p.d_y - c @ p.s_y
  on_model = c @ p.y_d - c @ history.cross @ c
  on_completion = t @ p.s_d - t @ history.gram @ c
  return jnp.stack(
    [
      on_change - on_model - on_completion,
      squared_remainder(c, p.s_d, p.d_d, history),
    ]
  )


def learn(old, new, is_known):
  """Running means, left as they are where something is not known or finite."""
  updated = DECAY * old + (1 - DECAY) * new
  is_known &= jnp.all(jnp.isfinite(updated))
  return jnp.where(is_known, updated, old)
