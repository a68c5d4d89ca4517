"""Predicts in the parameters, not in time: a model of how gradients change."""

from collections.abc import Sequence

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.forecasters.secant import kept_pairs
from optax_predict.forecasters.secant import model
from optax_predict.forecasters.secant import weighing
from optax_predict.forecasters.secant.history import leave_out_trees
from optax_predict.forecasters.secant.history import SecantHistory
from optax_predict.forecasters.secant.inverse import invert


def secant(
  memory: int = 10,
  *,
  directions: int | None = None,
  staleness: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0),
  cubic: float = 0.5,
  damping: float = 0.6,
  ridge: float = 1e-5,
) -> interfaces.Forecaster:
  r"""Predicts the gradient from how far the parameters have moved.

  Gradients change because parameters move. Let the rows of :math:`S` be the last m
  moves between true gradients, scaled to unit length, and the rows of :math:`Y` the
  changes of the gradient along them, scaled alike. The forecast at a displacement
  :math:`d` from the last true gradient :math:`g` is

  .. math::

    c &= M k, \quad M = (K + \mathrm{diag}(\lambda_j K_{jj}))^{-1}, \quad
      r = d - S^T c \\
    \hat g &= g + Y^T c + S^T M Y r + \gamma r

  - :math:`Y^T c` is what the gradient did along past moves, for the part of d that
    they explain.
  - :math:`S^T M Y r` makes the model's Hessian symmetric.
  - :math:`\gamma r` assumes some curvature where nothing is known.
    :math:`\gamma` is the number from 0 to :math:`L = \max_j |y_j|` that would have
    fitted the last forecasts best.

  The Hessian is taken to change evenly from place to place. Let :math:`m_j` be the
  middle of a move, seen from the last true gradient, :math:`\rho` the distance at
  which the farthest move began, and :math:`\theta` = ``cubic``. Then

  .. math::

    k_j &= s_j \cdot d \; (1 + \theta \, m_j \cdot d / \rho^2) \\
    K_{ij} &= s_i \cdot s_j + \theta \, (m_i \cdot m_j \; s_i \cdot s_j +
      m_i \cdot s_j \; s_i \cdot m_j) / \rho^2

  But for the ridge, that is the least model with first and second derivatives of the
  gradient that agrees with the pairs. With ``cubic=0`` there is one Hessian for all
  places: :math:`K = S S^T` and :math:`k = S d`.

  A pair tells of the curvature where it was taken. The farther away that is, the
  less it says of the curvature here, so its ridge is larger:

  .. math::

    \lambda_j = \lambda + \sigma \, (|m_j| / D)^2

  with :math:`D` the length of the last move. How fast a pair goes stale,
  :math:`\sigma`, differs from problem to problem. Each value in ``staleness`` is a
  candidate. Every true gradient tells what each candidate would have predicted,
  without a pass over the history. The candidate with the smallest recent errors
  makes the forecasts until the next true gradient.

  The expected error is :math:`\kappa L |r|`, with :math:`\kappa` from past errors.
  It lets a horizon end a window where the parameters leave the span of the moves.
  The forecast's ``curvature`` is L: while the parameters have moved little, one
  forecast serves several steps.

  Up to the ridge the forecast is exact

  - with ``cubic=0`` for an affine gradient, once the moves span the motion;
  - otherwise for a quadratic gradient, once they span the motion and its products
    with itself.

  Pairs have much in common, because a run goes down the same valley for long. They
  are kept as sums of r of the moves and changes: those that the recent pairs need
  most. In half precision they are sums of r orthonormal directions. Nothing is lost
  with r = 2 m, and little with r = m.

  Memory: r + 1 parameter-sized buffers, and one for the parameters at the last
  true gradient. A forecast reads 2 r + 5 of them.

  Args:
    memory: m, pairs to keep, at least 1.
    directions: r, parameter-sized buffers to keep them in, at least 1. ``None`` is
      as many as pairs. More than 2 m are not needed and not made.
    staleness: values of :math:`\sigma` to choose from, each 0 or more.
    cubic: :math:`\theta`, 0 or more. Its square root is about how much the Hessian
      may change, relative to itself, over the distance at which the farthest move
      began.
    damping: :math:`\gamma` relative to L before there are forecasts to fit it to; 0
      or more.
    ridge: :math:`\lambda`, above 0, relative to the unit length of a move.

  Returns:
    A :class:`Forecaster`.

  Raises:
    ValueError: if an argument is outside its range or ``staleness`` is empty.

  Examples:
    >>> import optax_predict
    >>> forecaster = optax_predict.forecasters.secant(directions=6)
    >>> tx = optax_predict.predict_gradients(forecaster)

  References:
    Schnabel and Frank, `Tensor methods for nonlinear equations
    <https://doi.org/10.1137/0721054>`_, 1984, for second derivatives from past
    points.

    Fang and Saad, `Two classes of multisecant methods for nonlinear
    acceleration <https://doi.org/10.1002/nla.617>`_, 2009.

    Powell, `A new algorithm for unconstrained optimization
    <https://doi.org/10.1016/B978-0-12-597050-1.50006-3>`_, 1970, for the
    symmetric completion.
  """
  m = checks.check_count("memory", memory)
  candidates = checks.check_sequence("staleness", staleness)
  if not candidates:
    raise ValueError("staleness must hold at least one value, got none.")
  for value in candidates:
    checks.check_number("staleness", value, 0.0)
  checks.check_number("cubic", cubic, 0.0)
  checks.check_number("damping", damping, 0.0)
  checks.check_number("ridge", ridge, 0.0, closed=False)
  n = len(candidates)
  wanted = m if directions is None else directions
  r = min(checks.check_count("directions", wanted), 2 * m)

  def init(params, dtype=None):
    scalar = trees.tree_dtype(params)

    def numbers(*shape):
      return jnp.zeros(shape, scalar)

    return SecantHistory(
      pairs=jnp.zeros([], jnp.int32),
      has_gradient=jnp.zeros([], jnp.int32),
      last_gradient=trees.zeros(params),
      kept=kept_pairs.init(m, r, params, dtype),
      lengths=numbers(m),
      gram=numbers(m, m),
      cross=numbers(m, m),
      change_gram=numbers(m, m),
      middles=numbers(m, m),
      inverses=numbers(n, m, m),
      fits=numbers(n, 2),
      scores=numbers(n),
      errors=numbers(2),
    )

  def project(history, motion):
    d = motion.displacement
    found = reductions.inner_products(
      [(d, d), *((x, d) for x in history.kept.basis)]
    )
    return jnp.sqrt(found[0]), found[1:]

  def projection(history, motion):
    known = motion.projection
    return project(history, motion)[1] if known is None else known

  def span(history):
    return weighing.span(history, cubic, damping)

  def predict(history, motion):
    is_safe, weighed = weighing.weigh(
      history, projection(history, motion), motion.distance, cubic, damping
    )

    def combine():
      forecast = trees.combine(
        [
          jnp.ones_like(weighed.on_motion),
          weighed.on_motion,
          *weighed.weights,
        ],
        [history.last_gradient, motion.displacement, *history.kept.basis],
      )
      return trees.cast_like(forecast, history.last_gradient)

    # Without the cond, XLA computes the forecast again for each of its readers.
    # With it, the r + 2 buffers are read once.
    forecast = lax.cond(
      is_safe, combine, lambda: trees.zeros(history.last_gradient)
    )
    return interfaces.Forecast(
      forecast, weighed.expected_error, weighed.curvature
    )

  def observe(gradients, history, motion, error):
    dx, length = motion.displacement, motion.distance
    is_pair = (history.has_gradient > 0) & (length > 0)
    per_length = jnp.where(is_pair, 1 / jnp.where(is_pair, length, 1), 0)
    change = trees.difference(gradients, history.last_gradient)
    found = reductions.inner_products(
      [
        (change, change),
        (dx, change),
        (gradients, gradients),
        *((x, change) for x in history.kept.basis),
      ]
    )
    # The trees keep their length: the numbers computed from them are scaled.
    sums = jnp.stack([projection(history, motion), found[3:]])
    s_d, y_d = kept_pairs.products(history.kept, per_length * sums[0])
    s_y, y_y = kept_pairs.products(history.kept, per_length * sums[1])
    products = model.Products(
      s_d=s_d,
      k_d=model.features(s_d, length, cubic, history),
      y_d=y_d,
      s_y=s_y,
      y_y=y_y,
      d_d=jnp.ones_like(length),
      d_y=per_length * (per_length * found[1]),
      square=per_length * (per_length * found[0]),
    )
    norm, error = jnp.sqrt(found[2]) * per_length, error * per_length
    learnt = model.learnt(products, norm, error, is_pair, damping, history)
    # This leaves out what overflows. It also puts every read of the basis, the
    # forecast's too, before the write to it. XLA would copy the basis otherwise.
    known = [found[:3], sums.ravel(), products.square[None], learnt.errors]
    is_pair &= jnp.all(jnp.isfinite(jnp.concatenate(known)))
    write = is_pair & (jnp.arange(m) == history.pairs % m)
    pairs = history.pairs + is_pair.astype(jnp.int32)
    age = model.ages(pairs, m)
    lengths = jnp.where(write, length, history.lengths)
    kept = kept_pairs.put(
      history.kept,
      (dx, change),
      per_length,
      sums,
      jnp.stack([length**2, found[1], found[0]]),
      write,
      age,
    )
    grams = kept_pairs.grams(kept)
    moves = model.moves(cubic, age, lengths, grams.gram)
    ridges = model.ridges(jnp.array(candidates, lengths.dtype), ridge, moves)
    # A sum of squares is never below 0: this only puts the last read of the old
    # gradient before the write of the new one.
    last = jax.tree.map(lambda g: jnp.where(found[0] < 0, 0, g), gradients)
    return SecantHistory(
      pairs=jnp.where(pairs < 2 * m, pairs, pairs - m),
      has_gradient=jnp.ones([], jnp.int32),
      last_gradient=trees.cast_like(last, history.last_gradient),
      kept=kept,
      lengths=lengths,
      **grams._asdict(),
      middles=moves.middles,
      inverses=jax.vmap(lambda x: invert(moves.kernel + jnp.diag(x), ridge))(
        ridges
      ),
      **learnt._asdict(),
    )

  return interfaces.Forecaster(
    init,
    reductions.in_full_precision(observe),
    reductions.in_full_precision(predict),
    history_size=m + 1,
    needs_params=True,
    project=project,
    leave_out_trees=leave_out_trees,
    span=span,
    recall=lambda history: history.last_gradient,
  )
