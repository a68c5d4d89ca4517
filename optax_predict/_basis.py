"""A few directions in which many vectors of the parameters' size are kept.

Vectors that have much in common need not be kept one by one. They are kept as
coordinates in r orthonormal directions, and only those are of the parameters'
size. Two new vectors add up to two directions; then the basis is turned so that
the two in which least is kept can be left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict import _base

# What is left of a vector outside the span adds a direction if it is more than
# rounding: of the vector itself and of what is left of the other vector, in
# units of the rounding of one number, since sums of many are off by more; and of
# what rounding has left of it in the span, as a share of its square.
_OF_VECTOR = 256
_OF_OTHER = 8192
_OF_OVERLAP = 0.5
# A basis of which a projection leaves more than this share of its length in the
# span is not orthonormal any more: what bfloat16 comes to after long.
_WORN = 1 / 32


class Addition(NamedTuple):
  """Two vectors and the directions that they add to a basis of r.

  Attributes:
    rests: what of each vector lies outside the span, two trees.
    weights: the two directions as sums of the basis and of both rests,
      ``[2, r + 2]``; zeros for one that is not needed.
    coordinates: of both vectors in the basis and these directions,
      ``[2, r + 2]``.
    is_direction: for either direction, whether it is needed, ``bool[2]``.
    is_worn: whether the basis has lost its orthonormality, ``bool[]``.
  """

  rests: tuple[_base.PyTree, _base.PyTree]
  weights: jax.Array
  coordinates: jax.Array
  is_direction: jax.Array
  is_worn: jax.Array


class Turn(NamedTuple):
  """From r directions and two additions to the next r.

  Attributes:
    matrix: coordinates in the former times this are those in the latter,
      ``[r + 2, r]``.
    reflections: what moves the other two directions to the end: the reflections
      ``I - u u^T`` by the first row and then by the second, ``[2, r + 2]``.
  """

  matrix: jax.Array
  reflections: jax.Array


def add(
  basis: Sequence[_base.PyTree],
  vectors: Sequence[_base.PyTree],
  coordinates: jax.Array,
  squares: jax.Array,
  is_kept: jax.Array,
  is_used: jax.Array,
) -> Addition:
  """What two vectors add to a basis, by Gram and Schmidt, twice.

  Args:
    basis: r trees.
    vectors: two trees.
    coordinates: of both in the basis, ``[2, r]``.
    squares: of their norms, ``[2]``.
    is_kept: whether the basis is; else both are added as if there were none.
    is_used: whether the result is; else nothing is subtracted.
  """
  coordinates = jnp.where(is_kept, coordinates, 0)

  def subtract():
    one = jnp.ones([], coordinates.dtype)
    return tuple(
      _base.combine([one, *-inside], [vector, *basis])
      for vector, inside in zip(vectors, coordinates, strict=True)
    )

  # The cond keeps XLA from subtracting anew for each of the sums below.
  first, second = _only_if(is_used, subtract, tuple(vectors))
  found = _base.inner_products(
    [
      (first, first),
      (first, second),
      (second, second),
      *((x, first) for x in basis),
      *((x, second) for x in basis),
    ]
  )
  # Where little is left of a vector, rounding has left some of the span in it.
  overlap = jnp.where(is_kept, found[3:].reshape(2, -1), 0)
  inside = overlap @ overlap.T
  a, b, c = found[:3] - jnp.array([inside[0, 0], inside[0, 1], inside[1, 1]])
  units = jnp.concatenate([-overlap, jnp.eye(2, dtype=a.dtype)], 1)
  rounding = jnp.finfo(a.dtype).eps
  least = (_OF_VECTOR * rounding) ** 2 * squares
  length, inverse = _length(a, (a > least[0]) & (a > _OF_OVERLAP * found[0]))
  along = b * inverse
  one = inverse * units[0]
  rest = c - along**2
  height, inverse = _length(
    rest,
    (rest > least[1])
    & (rest > _OF_OTHER * rounding * c)
    & (c > _OF_OVERLAP * found[2]),
  )
  two = inverse * (units[1] - along * one)
  outside = jnp.stack([length, jnp.zeros_like(length), along, height])
  return Addition(
    rests=(first, second),
    weights=jnp.stack([one, two]),
    coordinates=jnp.concatenate(
      [coordinates + overlap, outside.reshape(2, 2)], 1
    ),
    is_direction=jnp.stack([length, height]) > 0,
    # Of a vector across the span a projection finds nothing but rounding.
    is_worn=jnp.any(
      jnp.diagonal(inside)
      > jnp.maximum(_WORN**2 * jnp.sum(coordinates**2, axis=1), least)
    )
    & is_kept,
  )


def turn(rows: jax.Array, is_direction: jax.Array) -> Turn:
  """Keeps the directions in which vectors are largest together.

  Args:
    rows: coordinates of vectors in the basis and its additions, each weighted by
      how much it counts, ``[k, r + 2]``.
    is_direction: whether there is one, ``bool[r + 2]``; what is none is left out
      first, and of the basis the first such.
  """
  size = rows.shape[1]
  order = jnp.concatenate([jnp.arange(size, 2, -1), size + jnp.arange(1, 3)])
  moments = rows.T @ rows
  none = jnp.where(is_direction, 0, -order) * jnp.max(jnp.diagonal(moments))
  # The leading eigenvectors of the second moments span what is kept.
  _, vectors = jnp.linalg.eigh(moments + jnp.diag(none))
  first = _reflection(vectors[:, 0], -1)
  second = _reflection(vectors[:, 1] - first * (first @ vectors[:, 1]), -2)
  reflections = jnp.stack([first, second])
  # Without them the additions are left out.
  is_known = jnp.all(jnp.isfinite(reflections))
  reflections = jnp.where(is_known, reflections, 0)
  matrix = jnp.eye(size, dtype=rows.dtype)
  for u in reflections:
    matrix -= jnp.outer(matrix @ u, u)
  return Turn(matrix[:, :-2], reflections)


def turned(
  basis: Sequence[_base.PyTree],
  addition: Addition,
  by: Turn,
  is_kept: jax.Array,
  is_used: jax.Array,
) -> tuple[_base.PyTree, ...]:
  """The next basis, without the former where that is not kept.

  Each direction changes by a multiple of the same two trees: it can be written
  in its place, and no second basis is ever held. Where ``is_used`` is not set, it
  stays the same.
  """
  r = len(basis)
  u, v = by.reflections
  sums = by.reflections[:, r:] @ addition.weights
  sums = sums.at[:, :r].add(by.reflections[:, :r])
  keep = is_kept.astype(sums.dtype)
  sums = sums.at[:, :r].multiply(keep)
  # e_i - u_i (u . E) - v_i ((v . E) - (u . v) (u . E)), E the directions.
  on_first = v[:r] * (u @ v) - u[:r]
  on_second = -v[:r]

  def add_up():
    trees = [*basis, *addition.rests]
    return tuple(_base.combine([*weights], trees) for weights in sums)

  first, second = _only_if(is_used, add_up, addition.rests)

  def move(x, a, b):
    moved = _base.combine([keep, a, b], [x, first, second])
    return _base.cast_like(moved, x)

  return tuple(
    lax.cond(is_used, move, lambda x, a, b: x, x, a, b)
    for x, a, b in zip(basis, on_first, on_second, strict=True)
  )


def _only_if(condition, make, like):
  """What ``make`` returns, or zeros; ``like`` has their types and shardings."""
  return lax.cond(condition, make, lambda: jax.tree.map(jnp.zeros_like, like))


def _length(square, is_resolved):
  """A length and its inverse; zeros where it is not resolved."""
  length = jnp.sqrt(jnp.where(is_resolved, square, 1))
  return tuple(jnp.where(is_resolved, x, 0) for x in (length, 1 / length))


def _reflection(unit, axis):
  """u, for the reflection I - u u^T that moves a unit vector onto an axis."""
  sign = jnp.where(unit[axis] < 0, -1, 1).astype(unit.dtype)
  u = unit.at[axis].add(sign)
  return u * jnp.sqrt(2 / (u @ u))
