"""Predicts in the parameters, not in time: a model of how gradients change."""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict import _base
from optax_predict import _checks


class SecantHistory(NamedTuple):
  """Secant pairs from true gradients. m is the memory.

  Attributes:
    pairs: how many pairs were taken in, ``int32[]``, modulo m once all slots
      are full; the newest is in slot ``(pairs - 1) % m``.
    has_gradient: 1 once a gradient was taken in, ``int32[]``.
    last_gradient: the last true gradient, like the parameters.
    displacements: m trees, s_j: moves between true gradients, of unit length.
    changes: m trees, y_j: what the gradient did along s_j, per unit length.
    lengths: ``[m]``, |s_j| before it was scaled.
    curvatures: ``[m]``, |y_j|.
    gram: ``[m, m]``, s_i . s_j.
    cross: ``[m, m]``, y_i . s_j.
    inverse: ``[m, m]``, of the Gram matrix plus its ridge.
    moments: ``[5]``, running inner products that set the blend.
  """

  pairs: jax.Array
  has_gradient: jax.Array
  last_gradient: _base.PyTree
  displacements: tuple[_base.PyTree, ...]
  changes: tuple[_base.PyTree, ...]
  lengths: jax.Array
  curvatures: jax.Array
  gram: jax.Array
  cross: jax.Array
  inverse: jax.Array
  moments: jax.Array


class _Weights(NamedTuple):
  """A forecast as coefficients of what the history holds."""

  gradient: jax.Array  # of last_gradient
  changes: jax.Array  # [m], of y_j
  displacements: jax.Array  # [m], of s_j
  motion: jax.Array  # of dx


def secant(
    memory: int = 10,
    *,
    ridge: float = 1e-3,
    ridge_growth: float = 1.2,
    damping: float = 0.3,
    symmetric: bool = True,
    blend: bool = True,
) -> _base.Forecaster:
  r"""."""
  m = _checks.check_count("memory", memory)

  def init(params, dtype=None):
    scalar = _base.tree_dtype(params)
    slots = lambda: tuple(_base.zeros(params, dtype) for _ in range(m))
    return SecantHistory(
        pairs=jnp.zeros([], jnp.int32),
        has_gradient=jnp.zeros([], jnp.int32),
        last_gradient=_base.zeros(params),
        displacements=slots(),
        changes=slots(),
        lengths=jnp.zeros([m], scalar),
        curvatures=jnp.zeros([m], scalar),
        gram=jnp.zeros([m, m], scalar),
        cross=jnp.zeros([m, m], scalar),
        inverse=jnp.zeros([m, m], scalar),
        moments=jnp.zeros([5], scalar),
    )

  def model(history, motion):
    """Weights of the secant model's forecast."""
    dx = motion.displacement
    s_dx = _dots(history.displacements, dx)
    c = history.inverse @ s_dx
    if symmetric:
      y_dx = _dots(history.changes, dx)
      t = history.inverse @ (y_dx - history.cross @ c)
    else:
      t = jnp.zeros_like(c)
    stiffness = damping * jnp.max(history.curvatures)
    one = jnp.ones([], c.dtype)
    return _Weights(one, c, t - stiffness * c, stiffness)

  def weights(history, motion):
    w = model(history, motion)
    if not blend:
      return w
    a, b = _blend_weights(history.moments)
    mean = _mean_weights(history, m)
    return _Weights(
        gradient=a + b,
        changes=a * w.changes + b * mean,
        displacements=a * w.displacements,
        motion=a * w.motion,
    )

  def predict(history, motion):
    forecast = _evaluate(weights(history, motion), history, motion)
    return _base.cast_like(forecast, history.last_gradient)

  def observe(gradients, history, motion):
    g = gradients
    dx = motion.displacement
    length = jnp.sqrt(_base.vdot(dx, dx))
    is_pair = (history.has_gradient > 0) & (length > 0)
    scale = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    change = jax.tree.map(
        lambda new, old: _base.widen(new) - _base.widen(old),
        g,
        history.last_gradient,
    )
    slot = history.pairs % m
    write = is_pair & (jnp.arange(m) == slot)

    def fill(slots, values):
      return tuple(
          _base.where(write[j], scaled(scale, values), old)
          for j, old in enumerate(slots)
      )

    def scaled(a, tree):
      return jax.tree.map(lambda x: a.astype(_base.wide_dtype(x)) * x, tree)

    s_s = scale * _dots(history.displacements, dx)
    y_s = scale * _dots(history.changes, dx)
    s_y = scale * _dots(history.displacements, change)
    s_s = jnp.where(write, 1, s_s)
    own = scale * scale * _base.vdot(change, dx)
    gram = _set_cross(history.gram, write, s_s, s_s)
    cross = _set_cross(
        history.cross, write, jnp.where(write, own, s_y),
        jnp.where(write, own, y_s))
    lengths = jnp.where(write, length, history.lengths)
    curv = scale * jnp.sqrt(_base.vdot(change, change))
    curvatures = jnp.where(write, curv, history.curvatures)
    pairs = history.pairs + is_pair.astype(jnp.int32)
    age = (pairs - 1 - jnp.arange(m)) % m
    lam = ridge * ridge_growth ** age.astype(gram.dtype)
    inverse = _inverse(gram + jnp.diag(lam))
    moments = history.moments
    if blend:
      moments = _moments(moments, model(history, motion), _mean_weights(history, m), history, motion, g, is_pair)
    return SecantHistory(
        pairs=jnp.where(pairs < 2 * m, pairs, pairs - m),
        has_gradient=jnp.ones([], jnp.int32),
        last_gradient=_base.cast_like(g, history.last_gradient),
        displacements=fill(history.displacements, dx),
        changes=fill(history.changes, change),
        lengths=lengths, curvatures=curvatures, gram=gram, cross=cross,
        inverse=inverse, moments=moments)

  return _base.Forecaster(
      init, observe, predict, history_size=m + 1, needs_params=True
  )


def _dots(trees, x):
  return jnp.stack([_base.vdot(tree, x) for tree in trees])


def _evaluate(w, history, motion):
  trees = (history.last_gradient, motion.displacement, *history.changes, *history.displacements)
  return _base.combine(
      [w.gradient, w.motion, *w.changes, *w.displacements], trees)


def _set_cross(matrix, write, row, column):
  """Puts a row and a column where ``write`` is set."""
  matrix = jnp.where(write[:, None], row[None, :], matrix)
  return jnp.where(write[None, :], column[:, None], matrix)


def _inverse(a):
  def sweep(k, a):
    row, column, pivot = a[k], a[:, k], a[k, k]
    a = a - jnp.outer(column, row) / pivot
    a = a.at[k, :].set(row / pivot).at[:, k].set(column / pivot)
    return a.at[k, k].set(-1 / pivot)

  return -lax.fori_loop(0, a.shape[0], sweep, a)


def _mean_weights(history, m, n=5):
  """mean of last n gradients = last_gradient + Y^T w."""
  count = jnp.minimum(history.pairs, m)
  n = jnp.minimum(n, count + 1)
  age = (history.pairs - 1 - jnp.arange(m)) % m
  dtype = history.lengths.dtype
  share = jnp.maximum(n - 1 - age, 0).astype(dtype) / n.astype(dtype)
  return -history.lengths * share


def _blend_weights(moments):
  pp, pq, qq, pg, qg = moments
  rho = 0.15 * (pp + qq)
  a11, a22 = pp + rho, qq + rho
  det = a11 * a22 - pq * pq
  ok = det > 0
  det = jnp.where(ok, det, 1)
  r1, r2 = pg + rho, qg
  a = jnp.where(ok, (a22 * r1 - pq * r2) / det, 1)
  b = jnp.where(ok, (a11 * r2 - pq * r1) / det, 0)
  return a, b


def _moments(moments, w, mean, history, motion, g, ok):
  zero = jnp.zeros_like(w.gradient)
  p = _evaluate(w, history, motion)
  q = _base.combine([zero + 1, *mean], (history.last_gradient, *history.changes))
  gg = _base.vdot(g, g)
  new = jnp.stack([_base.vdot(p, p), _base.vdot(p, q), _base.vdot(q, q), _base.vdot(p, g), _base.vdot(q, g)])
  new = jnp.where(gg > 0, new / jnp.where(gg > 0, gg, 1), 0)
  return jnp.where(ok, 0.7 * moments + 0.3 * new, moments)
