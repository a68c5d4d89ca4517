"""The secant forecaster's model, and what each candidate would have predicted.

A candidate is a value of the staleness. All of this is algebra of m numbers: a
forecast is a sum over what the history holds, and its error follows from inner
products that are known anyway. ``history`` is a ``SecantHistory`` throughout.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Share of the past in the running means that rate candidates and calibrate
# forecasts.
_DECAY = 0.7
# Errors above these multiples of the gradient's norm count as these multiples: one
# outlier would spoil the running means for long. The first is for the scores of the
# candidates, the second for the calibration of the expected error.
_WORST = 1.5
_OUTLIER = 10.0
# Weight of the assumed stiffness in its fit; that of past forecasts is 1.
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
  """Fields of the history that are updated from the errors of forecasts.

  Attributes:
    scores: ``[n]``, running means of the candidates' relative errors.
    fits: ``[n, 2]``, running means that the stiffness is computed from.
    errors: ``[2]``, running means of the forecasts' errors and of what the
      model left unexplained, both relative to the gradient's norm.
  """

  scores: jax.Array
  fits: jax.Array
  errors: jax.Array


def tiny(like):
  """The smallest normal number of a dtype."""
  return jnp.finfo(like.dtype).tiny


def largest_curvature(history):
  """L, the largest |y_j|."""
  return jnp.sqrt(jnp.max(jnp.diagonal(history.change_gram)))


def ages(pairs, memory):
  """For each slot, how many pairs came after it."""
  return (pairs - 1 - jnp.arange(memory)) % memory


class Moves(NamedTuple):
  """Where the moves were made: their middles m_j, from the last true gradient.

  Attributes:
    middles: ``[m, m]``; row j holds m_j as a sum of the s_i, divided by the square
      of the distance at which the farthest move began.
    squares: ``[m]``, (|m_j| / D)^2, with D the length of the last move.
    kernel: ``[m, m]``, K: the inner products of the moves, plus what a Hessian that
      changes adds to them.
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

  It grows with the distance of a move's middle, where the curvature was measured.
  """
  squares = jnp.nan_to_num(moves.squares, nan=_FARTHEST)[None]
  doubt = ridge + staleness[:, None] * jnp.clip(squares, 0, _FARTHEST)
  return doubt * _divisor(jnp.diagonal(moves.kernel))[None]


def stiffness(fit, damping, history):
  """gamma, in [0, L]: the number that would have fitted past forecasts best.

  It is a least-squares fit with a ridge towards ``damping`` times L.
  """
  largest = largest_curvature(history)
  explained, size = fit
  is_known = size > 0
  total = explained + _PRIOR * size * damping * largest
  fitted = total / jnp.where(is_known, (1 + _PRIOR) * size, 1)
  fitted = jnp.where(is_known, fitted, damping * largest)
  return jnp.clip(fitted, 0, largest)


def features(s_d, length, cubic, history):
  """k(d), the kernel's inner products with a displacement, ``[m]``.

  Args:
    s_d: inner products of the s_j with d over ``length``.
    length: a real scalar; the result is k(d) over it.
    cubic: of :func:`forecasters.secant`.
    history: the pairs.
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
  """Norm of the predicted change minus the actual one."""
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
  """The stiffness is fitted from r . (y - Y^T c - S^T t) and r . r."""
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
  """The expected error kappa L |r|, from the square of |r|."""
  error, unexplained = history.errors
  size = jnp.maximum(unexplained, tiny(unexplained))
  kappa = jnp.where(unexplained > 0, error / size, 0)
  return kappa * _unexplained(squared_remainder, history)


def learnt(products, norm, error, is_pair, damping, history):
  """Updates scores, fits and errors from a true gradient.

  Args:
    products: of the pairs with the motion to the gradient, scaled to unit length.
    norm: of the gradient, divided by the motion's length.
    error: norm of the forecast's error, divided by the motion's length.
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
  # Before the first pair there was no forecast to learn from.
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
      # kappa is the error over what was unexplained: no ratio where that is 0.
      is_known & (unexplained > 0),
    ),
  )


def _unexplained(squared_remainder, history):
  """L |r|: the gradient's change if the curvature along r were the largest."""
  return largest_curvature(history) * jnp.sqrt(squared_remainder)


def _divisor(x):
  """``x`` where it is above 0, else 1: safe to divide by."""
  return jnp.where(x > 0, x, 1)


def _mean(old, new, is_known):
  """Running means; the old ones if the new are not known or not finite."""
  updated = _DECAY * old + (1 - _DECAY) * new
  is_known &= jnp.all(jnp.isfinite(updated))
  return jnp.where(is_known, updated, old)
