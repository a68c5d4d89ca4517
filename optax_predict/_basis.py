"""A few orthonormal directions in which many vectors are kept, in half precision.

Two new vectors add up to two directions; then the basis is turned so that the two
in which least is kept can be left out. Only what lies outside the span is stored of
a vector, so that rounding is a share of that: vectors that are nearly equal still
differ by what they differ by. In full precision the vectors themselves do:
:mod:`_selection` has the same functions, and turns nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict import _base
from optax_predict import _sums

# What is left of a vector outside the span adds a direction if it is more than
# rounding: of the vector itself, in units of the rounding of one number, since
# sums of many are off by more; and of what rounding has left of it in the span,
# as a share of its square. Of what is left of the other vector, squares are
# compared.
_OF_VECTOR = 256
_OF_OTHER = 8192
_OF_OVERLAP = 0.5
# A basis of which a projection leaves more than this share of its length in the
# span is not orthonormal any more: what bfloat16 comes to after long.
_WORN = 1 / 32


class Addition(NamedTuple):
  """Two vectors and the directions that they add to a basis of r.

  Attributes:
    rests: two trees, what is left of the vectors outside the span: with the
      basis, they span both.
    weights: the two directions as sums of the basis and of both rests,
      ``[2, r + 2]``; zeros for one that is not needed.
    coordinates: of both vectors in the basis and these directions,
      ``[2, r + 2]``.
    products: inner products of the basis and these directions,
      ``[r + 2, r + 2]``: ones on the diagonal where there is one.
    is_worn: whether the basis has lost its orthonormality, ``bool[]``.
  """

  rests: tuple[_base.PyTree, _base.PyTree]
  weights: jax.Array
  coordinates: jax.Array
  products: jax.Array
  is_worn: jax.Array


class Reduction(NamedTuple):
  """From r directions and two additions to the next r.

  Attributes:
    matrix: coordinates in the former times this are those in the latter,
      ``[r + 2, r]``.
    products: inner products of the latter, ``[r, r]``.
    reflections: what moves the other two directions to the end: the reflections
      ``I - u u^T`` by the first row and then by the second, ``[2, r + 2]``.
  """

  matrix: jax.Array
  products: jax.Array
  reflections: jax.Array


def add(
  basis: Sequence[_base.PyTree],
  known: jax.Array,
  vectors: tuple[_base.PyTree, _base.PyTree],
  overlap: jax.Array,
  products: jax.Array,
  is_used: jax.Array,
) -> Addition:
  """What two vectors add to a basis, by Gram and Schmidt.

  The basis is orthonormal to the precision that it is stored in. What is left of a
  vector is projected once more (Kahan's "twice is enough").

  Args:
    basis: r trees.
    known: their inner products, ``[r, r]``: the identity where there is a
      direction, or else zeros.
    vectors: two trees.
    overlap: inner products of both with the basis, ``[2, r]``.
    products: of the first with itself, of both, of the second with itself,
      ``[3]``.
    is_used: whether the result is; else nothing is subtracted.

  References:
    Giraud, Langou and Rozloznik, `The loss of orthogonality in the Gram-Schmidt
    orthogonalization process <https://doi.org/10.1016/j.camwa.2005.08.009>`_,
    2005.
  """
  is_there = jnp.diagonal(known) > 0
  taken = jnp.where(is_there, overlap, 0)

  def subtract():
    one = jnp.ones([], taken.dtype)
    first, second = (
      _base.combine([one, *-inside], [vector, *basis])
      for vector, inside in zip(vectors, taken, strict=True)
    )
    found = _sums.inner_products(
      [
        (first, first),
        (first, second),
        (second, second),
        *((x, first) for x in basis),
        *((x, second) for x in basis),
      ]
    )
    return (first, second), found

  def nothing():
    found = jnp.zeros([3 + taken.size], taken.dtype)
    return vectors, found

  rests, found = lax.cond(is_used, subtract, nothing)
  left = jnp.where(is_there, found[3:].reshape(taken.shape), 0)
  least = (_OF_VECTOR * jnp.finfo(taken.dtype).eps) ** 2 * products[::2]
  weights, outside = _directions(left, found[:3], least)
  inside = jnp.sum(left**2, axis=1)
  is_direction = jnp.concatenate([is_there, jnp.diagonal(outside) > 0])
  # Of a vector across the span a projection finds nothing but rounding.
  rounding = jnp.maximum(_WORN**2 * jnp.sum(taken**2, axis=1), least)
  return Addition(
    rests=rests,
    weights=weights,
    coordinates=jnp.concatenate([taken + left, outside], 1),
    products=jnp.diag(is_direction.astype(taken.dtype)),
    is_worn=jnp.any(inside > rounding),
  )


def _directions(overlap, products, least):
  """Directions as weights, and both vectors' coordinates in them, ``[2, 2]``."""
  inside = overlap @ overlap.T
  a, b, c = products - jnp.stack([inside[0, 0], inside[0, 1], inside[1, 1]])
  size, _, other = products
  eps = jnp.finfo(a.dtype).eps
  units = jnp.concatenate([-overlap, jnp.eye(2, dtype=a.dtype)], 1)
  length, inverse = _length(a, (a > least[0]) & (a > _OF_OVERLAP * size))
  along = b * inverse
  one = inverse * units[0]
  rest = c - along**2
  height, inverse = _length(
    rest,
    (rest > least[1])
    & (rest > _OF_OTHER * eps * c)
    & (c > _OF_OVERLAP * other),
  )
  two = inverse * (units[1] - along * one)
  outside = jnp.stack([length, jnp.zeros_like(length), along, height])
  return jnp.stack([one, two]), outside.reshape(2, 2)


def reduce(rows: jax.Array, addition: Addition) -> Reduction:
  """Keeps the directions in which vectors are largest together.

  What is no direction is left out first, and of the basis the first such.

  Args:
    rows: coordinates of vectors in the basis and its additions, each weighted by
      how much it counts, ``[k, r + 2]``.
    addition: what ``add`` found.
  """
  size = rows.shape[1]
  is_direction = jnp.diagonal(addition.products) > 0
  order = jnp.concatenate([jnp.arange(size, 2, -1), size + jnp.arange(1, 3)])
  order = order.astype(rows.dtype)
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
  is_found = jnp.arange(size - 2) < jnp.sum(is_direction)
  products = jnp.diag(is_found.astype(rows.dtype))
  return Reduction(matrix[:, :-2], products, reflections)


def reduced(
  basis: Sequence[_base.PyTree],
  addition: Addition,
  by: Reduction,
  is_used: jax.Array,
) -> tuple[_base.PyTree, ...]:
  """The next basis.

  Each direction changes by a multiple of the same two trees: it can be written
  in its place, and no second basis is ever held. Where ``is_used`` is not set, it
  stays the same.
  """
  r = len(basis)
  u, v = by.reflections
  # What has no meaning any more, after a basis was given up, is not added to.
  keep = jnp.diagonal(addition.products)[:r]
  sums = by.reflections[:, r:] @ addition.weights
  sums = sums.at[:, :r].add(by.reflections[:, :r]).at[:, :r].multiply(keep)
  # e_i - u_i (u . E) - v_i ((v . E) - (u . v) (u . E)), E the directions.
  on_first = v[:r] * (u @ v) - u[:r]
  on_second = -v[:r]

  def add_up():
    trees = [*basis, *addition.rests]
    return tuple(_base.combine([*weights], trees) for weights in sums)

  # The cond keeps XLA from adding up anew for each direction below.
  first, second = lax.cond(
    is_used, add_up, lambda: jax.tree.map(jnp.zeros_like, addition.rests)
  )

  def move(x, keep, a, b):
    moved = _base.combine([keep, a, b], [x, first, second])
    return _base.cast_like(moved, x)

  return tuple(
    lax.cond(is_used, move, lambda x, *_: x, x, *weights)
    for x, *weights in zip(basis, keep, on_first, on_second, strict=True)
  )


def _length(square, is_resolved):
  """A length and its inverse; zeros where it is not resolved."""
  length = jnp.sqrt(jnp.where(is_resolved, square, 1))
  return tuple(jnp.where(is_resolved, x, 0) for x in (length, 1 / length))


def _reflection(unit, axis):
  """u, for the reflection I - u u^T that moves a unit vector onto an axis."""
  sign = jnp.where(unit[axis] < 0, -1, 1).astype(unit.dtype)
  u = unit.at[axis].add(sign)
  return u * jnp.sqrt(2 / (u @ u))
