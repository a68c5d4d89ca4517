"""Predicts in the parameters, not in time: a model of how gradients change."""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict import _base
from optax_predict import _blend
from optax_predict import _checks


class SecantHistory(NamedTuple):
  """Secant pairs from true gradients; m is the memory.

  Attributes:
    pairs: how many pairs were taken in, ``int32[]``, modulo m once all slots
      are full; the newest is in slot ``(pairs - 1) % m``.
    has_gradient: 1 once a gradient was taken in, ``int32[]``.
    last_gradient: the last true gradient, like the parameters.
    displacements: m trees s_j: moves between true gradients, of unit length.
    changes: m trees y_j: what the gradient did along s_j, per unit length.
    curvatures: ``[m]``, |y_j|.
    gram: ``[m, m]``, s_i . s_j.
    cross: ``[m, m]``, y_i . s_j.
    inverse: ``[m, m]``, of the Gram matrix plus its ridge.
    lengths: ``[m]``, |s_j| before it was scaled.
    errors: ``[2]``, running means of the forecasts' errors and of what the
      model left unexplained, both relative to the gradient.
    moments: ``[5]``, running inner products that set the blend with the mean.
  """

  pairs: jax.Array
  has_gradient: jax.Array
  last_gradient: _base.PyTree
  displacements: tuple[_base.PyTree, ...]
  changes: tuple[_base.PyTree, ...]
  curvatures: jax.Array
  gram: jax.Array
  cross: jax.Array
  inverse: jax.Array
  lengths: jax.Array
  errors: jax.Array
  moments: jax.Array


def secant(
  memory: int = 10,
  *,
  damping: float = 0.6,
  ridge: float = 1e-3,
  ridge_growth: float = 1.2,
  symmetric: bool = True,
) -> _base.Forecaster:
  r"""Predicts the gradient from how far the parameters have moved.

  Gradients change because parameters move. From the last m moves between true
  gradients, scaled to unit length (rows of :math:`S`), and the changes of the
  gradient along them (rows of :math:`Y`), the forecast at a displacement
  :math:`d` from the last true gradient :math:`g` is

  .. math::

    c &= M S d, \quad M = (S S^T + \mathrm{diag}(\lambda))^{-1}, \quad
      r = d - S^T c \\
    p &= g + Y^T c + S^T M Y r + \gamma L r \\
    \hat g &= a \, p + b \, q

  :math:`Y^T c` is the multisecant model of the Hessian; :math:`S^T M Y r` makes
  that model symmetric; :math:`\gamma L r` with :math:`L = \max_j |y_j|` stands
  for the curvature across the span that nothing is known of. The ridge
  :math:`\lambda_j = \lambda \rho^{\mathrm{age}_j}` trusts older pairs less. The
  mean :math:`q` of the last five gradients steadies the model where it errs:
  :math:`(a, b)` are the weights that would have fitted past gradients best, by
  least squares with a ridge towards :math:`(1, 0)`.

  It expects an error of :math:`\kappa L |r|`, with :math:`\kappa` from its past
  errors: a horizon may end a window where the parameters leave the span.

  The model is exact, but for the ridge, for an affine gradient once the memory
  spans the motion.

  Memory: 2 m + 1 parameter-sized buffers, and one for the parameters at the last
  true gradient. A predicted step reads 4 m + 5 of them, without the symmetric
  term 3 m + 5.

  Args:
    memory: m, pairs to keep, at least 1.
    damping: :math:`\gamma`, 0 or more.
    ridge: :math:`\lambda`, above 0, relative to the unit length of a pair.
    ridge_growth: :math:`\rho`, at least 1.
    symmetric: whether :math:`S^T M Y r` is in the model. Without it a predicted
      step is cheaper and a few more runs come out worse.

  Returns:
    A :class:`Forecaster`.

  Raises:
    ValueError: if an argument is outside its range.

  Examples:
    >>> import optax_predict
    >>> forecaster = optax_predict.forecasters.secant(memory=20)
    >>> tx = optax_predict.predict_gradients(forecaster)

  References:
    Fang and Saad, `Two classes of multisecant methods for nonlinear
    acceleration <https://doi.org/10.1002/nla.617>`_, 2009.

    Powell, `A new algorithm for unconstrained optimization
    <https://doi.org/10.1016/B978-0-12-597050-1.50006-3>`_, 1970, for the
    symmetric completion.
  """
  m = _checks.check_count("memory", memory)
  _checks.check_number("damping", damping, 0.0)
  _checks.check_number("ridge", ridge, 0.0, closed=False)
  _checks.check_number("ridge_growth", ridge_growth, 1.0)

  def init(params, dtype=None):
    scalar = _base.tree_dtype(params)
    return SecantHistory(
      pairs=jnp.zeros([], jnp.int32),
      has_gradient=jnp.zeros([], jnp.int32),
      last_gradient=_base.zeros(params),
      displacements=tuple(_base.zeros(params, dtype) for _ in range(m)),
      changes=tuple(_base.zeros(params, dtype) for _ in range(m)),
      curvatures=jnp.zeros([m], scalar),
      gram=jnp.zeros([m, m], scalar),
      cross=jnp.zeros([m, m], scalar),
      inverse=jnp.zeros([m, m], scalar),
      lengths=jnp.zeros([m], scalar),
      errors=jnp.zeros([2], scalar),
      moments=jnp.zeros([5], scalar),
    )

  def project(history, motion):
    slots = history.displacements
    if symmetric:
      slots += history.changes
    return _base.inner_products([(x, motion.displacement) for x in slots])

  def split(history, motion):
    """S dx and Y dx; the latter only for the symmetric model."""
    both = motion.projection
    if both is None:
      both = project(history, motion)
    return both[:m], both[m:]

  def predict(history, motion):
    s_dx, y_dx = split(history, motion)
    c = history.inverse @ s_dx
    t = jnp.zeros_like(c)
    if symmetric:
      t = history.inverse @ (y_dx - history.cross @ c)
    stiffness = damping * jnp.max(history.curvatures)
    a, b = _blend.weights(history.moments)
    mean = _blend.mean_weights(history)
    one = jnp.ones_like(stiffness)
    error, unexplained = history.errors
    kappa = jnp.where(
      unexplained > 0, error / jnp.maximum(unexplained, _blend.tiny(c)), 0
    )
    expected_error = kappa * _unexplained(history, motion, c, s_dx)
    on_changes = a * c + b * mean
    on_displacements = a * (t - stiffness * c)
    # No element of the forecast is larger than this sum of norms.
    largest = (
      history.curvatures @ jnp.abs(on_changes)
      + jnp.sum(jnp.abs(on_displacements))
      + a * stiffness * motion.distance
    )
    is_safe = largest < jnp.sqrt(jnp.finfo(c.dtype).max)

    def combine():
      forecast = _base.combine(
        [(a + b) * one, a * stiffness, *on_changes, *on_displacements],
        [
          history.last_gradient,
          motion.displacement,
          *history.changes,
          *history.displacements,
        ],
      )
      return _base.cast_like(forecast, history.last_gradient)

    # The cond is also what keeps XLA from computing the forecast again for each
    # of its readers: its 2 m + 2 buffers are read once.
    forecast = lax.cond(
      is_safe, combine, lambda: _base.zeros(history.last_gradient)
    )
    return _base.Forecast(forecast, jnp.where(is_safe, expected_error, jnp.inf))

  def observe(gradients, history, motion, forecast):
    dx, length = motion.displacement, motion.distance
    is_pair = (history.has_gradient > 0) & (length > 0)
    per_length = jnp.where(is_pair, 1 / jnp.where(is_pair, length, 1), 0)
    s = _scaled(per_length, dx)
    y = _scaled(per_length, _difference(gradients, history.last_gradient))
    s_dx, y_dx = split(history, motion)
    s_s, y_s = per_length * s_dx, per_length * y_dx
    slots = history.displacements if symmetric else ()
    products = _base.inner_products([(y, y), (s, y), *((x, y) for x in slots)])
    square, own, s_y = products[0], products[1], products[2:]
    errors = _learn(history, motion, s_dx, gradients, forecast, is_pair)
    moments = _blend.moments(history, gradients, forecast, is_pair)
    # Beside leaving out what overflows, this orders every read of a slot before
    # the write to it: XLA would copy the slot otherwise.
    known = [s_s, y_s, products, errors, moments]
    is_pair &= jnp.all(jnp.isfinite(jnp.concatenate(known)))
    write = is_pair & (jnp.arange(m) == history.pairs % m)
    s_s = jnp.where(write, 1, s_s)
    gram, cross = _put(history.gram, write, s_s, s_s), history.cross
    if symmetric:
      row, column = jnp.where(write, own, s_y), jnp.where(write, own, y_s)
      cross = _put(cross, write, row, column)
    pairs = history.pairs + is_pair.astype(jnp.int32)
    age = ((pairs - 1 - jnp.arange(m)) % m).astype(gram.dtype)
    displacements, changes = _fill(
      (history.displacements, history.changes), write, (s, y)
    )
    return SecantHistory(
      pairs=jnp.where(pairs < 2 * m, pairs, pairs - m),
      has_gradient=jnp.ones([], jnp.int32),
      last_gradient=_base.cast_like(gradients, history.last_gradient),
      displacements=displacements,
      changes=changes,
      curvatures=jnp.where(write, jnp.sqrt(square), history.curvatures),
      gram=gram,
      cross=cross,
      inverse=_inverse(gram + jnp.diag(ridge * ridge_growth**age)),
      lengths=jnp.where(write, length, history.lengths),
      errors=errors,
      moments=moments,
    )

  return _base.Forecaster(
    init,
    observe,
    predict,
    history_size=m + 1,
    needs_params=True,
    project=project,
  )


def _scaled(scale, tree):
  return jax.tree.map(lambda x: scale.astype(_base.wide_dtype(x)) * x, tree)


def _difference(x, y):
  return jax.tree.map(lambda a, b: _base.widen(a) - _base.widen(b), x, y)


def _unexplained(history, motion, c, s_dx):
  """L |r|: the gradient's change if all of r met the largest curvature."""
  square = motion.distance**2 - 2 * c @ s_dx + c @ history.gram @ c
  return jnp.max(history.curvatures) * jnp.sqrt(jnp.maximum(square, 0))


def _learn(history, motion, s_dx, gradients, forecast, is_pair):
  """Running means of |forecast - g| / |g| and L |r| / |g|."""
  error = _difference(forecast.gradients, gradients)
  squares = _base.inner_products([(error, error), (gradients, gradients)])
  absolute, size = jnp.sqrt(squares)
  unexplained = _unexplained(history, motion, history.inverse @ s_dx, s_dx)
  size = jnp.maximum(size, jnp.maximum(absolute, unexplained) / _blend.OUTLIER)
  new = jnp.stack([absolute, unexplained]) / jnp.maximum(
    size, _blend.tiny(size)
  )
  updated = _blend.DECAY * history.errors + (1 - _blend.DECAY) * new
  # An error too large to compare says nothing of the next one.
  # Neither does one where the model had nothing left to explain.
  is_known = is_pair & (unexplained > 0) & jnp.all(jnp.isfinite(updated))
  return jnp.where(is_known, updated, history.errors)


def _fill(slots, write, new):
  """Puts a pair into the slots where ``write`` is set.

  One cond a slot: the slot that is written costs its bytes, the others nothing.
  """
  pairs = list(zip(*slots))
  new = _base.cast_like(new, pairs[0])
  filled = [
    lax.cond(write[j], lambda old, new: new, lambda old, new: old, pair, new)
    for j, pair in enumerate(pairs)
  ]
  return tuple(zip(*filled))


def _put(matrix, write, row, column):
  """Replaces the row and the column where ``write`` is set."""
  matrix = jnp.where(write[:, None], row[None, :], matrix)
  return jnp.where(write[None, :], column[:, None], matrix)


def _inverse(matrix):
  """Inverse of a small positive definite matrix, by sweeping its pivots.

  The ridge keeps every pivot above zero. Unlike a library's inverse this is a
  plain loop, so that it compiles and exports anywhere.
  """

  def sweep(k, a):
    row, column, pivot = a[k], a[:, k], a[k, k]
    a = a - jnp.outer(column, row / pivot)
    a = a.at[k].set(row / pivot).at[:, k].set(column / pivot)
    return a.at[k, k].set(-1 / pivot)

  return -lax.fori_loop(0, matrix.shape[0], sweep, matrix)
