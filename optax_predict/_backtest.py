"""The secant forecaster's model, and what each candidate would have predicted.

All of it is algebra of m numbers: a forecast is a sum over what the history
holds, and its error follows from inner products that are known anyway.
``history`` is a ``SecantHistory`` throughout.
"""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

# Share of the past in the running means that rate candidates and calibrate
# forecasts.
_DECAY = 0.7
# A forecast off by more than so many gradients counts as off by so many: one
# outlier would spoil the running means for long.
_WORST = 1.5
_OUTLIER = 10.0
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
    k_d: ``[m]``, the ``features`` of d.
    y_d: ``[m]``, y_j . d.
    s_y: ``[m]``, s_j . y.
    y_y: ``[m]``, y_j . y.
    d_d: ``[]``, d . d.
    d_y: ``[]``, d . y.
    square: ``[]``, y . y.
  """

  s_d: jax.Array
  k_d: jax.Array
  y_d: jax.Array
  s_y: jax.Array
  y_y: jax.Array
  d_d: jax.Array
  d_y: jax.Array
  square: jax.Array


class Learnt(NamedTuple):
  """Fields of the history that a true gradient adds to.

  Attributes:
    scores: ``[n]``, running means of the candidates' relative errors.
    fits: ``[n, 2]``, running sums that the stiffness follows from.
    errors: ``[2]``, running means of the forecasts' errors and of what the
      model left unexplained, both relative to the gradient.
  """

  scores: jax.Array
  fits: jax.Array
  errors: jax.Array


def tiny(like):
  """The smallest normal number of a dtype."""
  return jnp.finfo(like.dtype).tiny


def inverse(matrix, least):
  """Inverse of a small positive definite matrix, by sweeping its pivots.

  No pivot is smaller than ``least``, which its eigenvalues are not, but for
  rounding. A plain loop compiles faster than a library's inverse, and takes all
  candidates at once.
  """

  def sweep(k, a):
    row, column, pivot = a[k], a[:, k], jnp.maximum(a[k, k], least)
    a = a - jnp.outer(column, row / pivot)
    a = a.at[k].set(row / pivot).at[:, k].set(column / pivot)
    return a.at[k, k].set(-1 / pivot)

  return -lax.fori_loop(0, matrix.shape[0], sweep, matrix)


def largest_curvature(history):
  """L, the largest |y_j|."""
  return jnp.sqrt(jnp.max(jnp.diagonal(history.change_gram)))


def ages(pairs, memory):
  """For each slot, how many pairs came after it."""
  return (pairs - 1 - jnp.arange(memory)) % memory


class Moves(NamedTuple):
  """Where the moves were made: their middles m_j, from the last true gradient.

  Attributes:
    middles: ``[m, m]``, row j is m_j as a sum of the s_i, over the square of the
      distance at which the farthest move began.
    squares: ``[m]``, of |m_j| over the length of the last move.
    kernel: ``[m, m]``, the inner products K of the moves and of what a curvature
      that changes adds to them.
  """

  middles: jax.Array
  squares: jax.Array
  kernel: jax.Array


def moves(cubic, age, lengths, gram):
  """Where the moves were made; ``cubic`` is that of :func:`forecasters.secant`."""
  longest = jnp.max(lengths)
  newest = jnp.max(jnp.where(age == 0, lengths, 0))
  relative = lengths / _divisor(longest)
  since = jnp.where(age[None, :] < age[:, None], relative[None, :], 0)
  since = jnp.where(relative[:, None] > 0, since, 0)
  starts = since + jnp.diag(relative)
  farthest = _divisor(jnp.sqrt(jnp.max(jnp.sum((starts @ gram) * starts, 1))))
  middles = -(since + jnp.diag(relative) / 2) / farthest
  along = middles @ gram
  among = along @ middles.T
  change = among * gram + along * along.T
  return Moves(
    middles=jnp.nan_to_num(middles / _divisor(farthest * longest)),
    squares=jnp.diagonal(among) * (farthest * longest / _divisor(newest)) ** 2,
    kernel=gram + cubic * change,
  )


def ridges(staleness, ridge, moves):
  """The ridge of every pair, for each candidate, ``[n, m]``.

  The curvature that a pair has seen is that of the middle of its move.
  """
  squares = jnp.nan_to_num(moves.squares, nan=_FARTHEST)[None]
  doubt = ridge + staleness[:, None] * jnp.clip(squares, 0, _FARTHEST)
  return doubt * _divisor(jnp.diagonal(moves.kernel))[None]


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


def features(s_d, length, cubic, history):
  """Inner products with a displacement, in the sense of the kernel, ``[m]``.

  Args:
    s_d: those of the s_j with the displacement over ``length``.
    length: a real scalar.
    cubic: of :func:`forecasters.secant`.
    history: whose ``middles`` are seen.
  """
  return s_d * (1 + cubic * length * (history.middles @ s_d))


def solve(inverse, k_d, y_d, history):
  """Coefficients c, and the weights t of the symmetric term S^T t.

  Args:
    inverse: M, of one candidate.
    k_d: ``features`` of a displacement.
    y_d: its inner products with the y_j.
    history: the pairs.
  """
  c = inverse @ k_d
  return c, inverse @ (y_d - history.cross @ c)


def weights(c, t, fit, damping, history):
  """A forecast less the last gradient as a sum."""
  gamma = stiffness(fit, damping, history)
  return Weights(c, t - gamma * c, gamma)


def squared_remainder(c, s_d, d_d, history):
  """|r|^2, for r = d - S^T c."""
  return jnp.maximum(d_d - 2 * c @ s_d + c @ history.gram @ c, 0)


def _error(weights, products, history):
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


def _fit(c, t, products, history):
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


def expected_error(squared_remainder, history):
  """What a forecast is off by, from what it leaves of the displacement."""
  error, unexplained = history.errors
  size = jnp.maximum(unexplained, tiny(unexplained))
  kappa = jnp.where(unexplained > 0, error / size, 0)
  return kappa * _unexplained(squared_remainder, history)


def learnt(products, norm, error, is_pair, damping, history):
  """What a true gradient says of every candidate's forecast.

  Args:
    products: of the pairs with the motion that led to it, of unit length.
    norm: of the gradient, over the motion's length.
    error: norm of the forecast's error, over the motion's length.
    is_pair: whether motion and change are a pair, ``bool[]``.
    damping: of :func:`forecasters.secant`.
    history: before the pair is taken in.
  """

  def candidate(inverse, past):
    c, t = solve(inverse, products.k_d, products.y_d, history)
    tried = weights(c, t, past, damping, history)
    return _error(tried, products, history), _fit(c, t, products, history)

  errors, fits = jax.vmap(candidate)(history.inverses, history.fits)
  best = jnp.argmin(history.scores)
  unexplained = _unexplained(fits[best, 1], history)
  # Neither candidates nor kappa have said anything before the first pair.
  is_known = is_pair & (history.pairs > 0)
  size = jnp.maximum(norm, tiny(norm))
  largest = jnp.maximum(error, unexplained) / _OUTLIER
  calibration = jnp.stack([error, unexplained])
  return Learnt(
    scores=_mean(history.scores, jnp.minimum(errors / size, _WORST), is_known),
    fits=_mean(history.fits, fits / size**2, is_known),
    errors=_mean(
      history.errors,
      calibration / jnp.maximum(size, largest),
      # Where the model had nothing left to explain, an error says nothing.
      is_known & (unexplained > 0),
    ),
  )


def _unexplained(squared_remainder, history):
  """L |r|: the gradient's change if all of r met the largest curvature."""
  return largest_curvature(history) * jnp.sqrt(squared_remainder)


def _divisor(x):
  """What can be divided by: 1 for what is not above 0."""
  return jnp.where(x > 0, x, 1)


def _mean(old, new, is_known):
  """Running means, left as they are where something is not known or finite."""
  updated = _DECAY * old + (1 - _DECAY) * new
  is_known &= jnp.all(jnp.isfinite(updated))
  return jnp.where(is_known, updated, old)
