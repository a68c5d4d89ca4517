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
from optax_predict import _sums

# What is left of a vector outside the span adds a direction if it is more than
# rounding: of the vector itself, in units of the rounding of one number, since
# sums of many are off by more; and of what rounding has left of it in the span,
# as a share of its square. Of what is left of the other vector, squares are
# compared.
_OF_VECTOR = 256
_OF_OTHER = 8192
_OF_OVERLAP = 0.5
# One projection is enough for vectors of which at least this share of the square
# is left: sums in float32 are off by a few parts in a million.
_ENOUGH = 1e-3
# A basis of which a projection leaves more than this share of its length in the
# span is not orthonormal any more: what bfloat16 comes to after long.
_WORN = 1 / 32


class Addition(NamedTuple):
  """Two vectors and the directions that they add to a basis of r.

  Attributes:
    rests: two trees that span what of the vectors lies outside the span, with
      the basis: the vectors or what is left of them.
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


class _Rests(NamedTuple):
  """What is left of two vectors, and inner products with it.

  Attributes:
    trees: two.
    taken: coordinates of what was subtracted from the vectors, ``[2, r]``.
    overlap: inner products of both trees with the basis, ``[2, r]``.
    products: of the first with itself, of both, of the second with itself,
      ``[3]``.
  """

  trees: tuple[_base.PyTree, _base.PyTree]
  taken: jax.Array
  overlap: jax.Array
  products: jax.Array


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
  vectors: tuple[_base.PyTree, _base.PyTree],
  overlap: jax.Array,
  products: jax.Array,
  is_kept: jax.Array,
  is_used: jax.Array,
) -> Addition:
  """What two vectors add to a basis, by Gram and Schmidt.

  Where much of either vector lies outside the span, its inner products say all
  there is to know. Where little does, rounding would leave some of the span in
  it: what is left is then projected once more (Kahan's "twice is enough").

  Args:
    basis: r trees.
    vectors: two trees.
    overlap: inner products of both with the basis, ``[2, r]``.
    products: of the first with itself, of both, of the second with itself,
      ``[3]``.
    is_kept: whether the basis is; else both are added as if there were none.
    is_used: whether the result is; else nothing is subtracted.

  References:
    Giraud, Langou and Rozloznik, `The loss of orthogonality in the Gram-Schmidt
    orthogonalization process <https://doi.org/10.1016/j.camwa.2005.08.009>`_,
    2005.
  """
  overlap = jnp.where(is_kept, overlap, 0)
  whole = _Rests(vectors, jnp.zeros_like(overlap), overlap, products)
  is_twice = is_used & ~_is_known(basis, whole)

  def subtract():
    one = jnp.ones([], overlap.dtype)
    first, second = (
      _base.combine([one, *-inside], [vector, *basis])
      for vector, inside in zip(vectors, overlap, strict=True)
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
    left = jnp.where(is_kept, found[3:].reshape(2, -1), 0)
    return _Rests((first, second), overlap, left, found[:3])

  rests = lax.cond(is_twice, subtract, lambda: whole)
  least = (_OF_VECTOR * jnp.finfo(overlap.dtype).eps) ** 2 * products[::2]
  weights, outside = _directions(rests, least, is_twice)
  inside = jnp.sum(rests.overlap**2, axis=1)
  return Addition(
    rests=rests.trees,
    weights=weights,
    coordinates=jnp.concatenate([rests.taken + rests.overlap, outside], 1),
    is_direction=jnp.diagonal(outside) > 0,
    # Of a vector across the span a projection finds nothing but rounding.
    is_worn=jnp.any(
      inside > jnp.maximum(_WORN**2 * jnp.sum(rests.taken**2, axis=1), least)
    )
    & is_kept
    & is_twice,
  )


def _is_known(basis, whole):
  """Whether sums tell what of both vectors is outside the span."""
  eps = jnp.finfo(whole.overlap.dtype).eps
  if any(jnp.finfo(x.dtype).eps > eps for x in jax.tree.leaves(basis)):
    # Stored in less precision, a basis is orthonormal to that only.
    return jnp.zeros([], bool)
  a, b, c = _outside(whole)
  size, _, other = whole.products
  is_first = a > _ENOUGH * size
  rest = c - b**2 / jnp.where(is_first, a, 1)
  return is_first & (rest > _ENOUGH * other)


def _outside(rests):
  """Inner products of what is outside the span."""
  inside = rests.overlap @ rests.overlap.T
  return rests.products - jnp.stack([inside[0, 0], inside[0, 1], inside[1, 1]])


def _directions(rests, least, is_twice):
  """Directions as weights, and both vectors' coordinates in them, ``[2, 2]``."""
  a, b, c = _outside(rests)
  size, _, other = rests.products
  eps = jnp.finfo(a.dtype).eps
  share = jnp.where(is_twice, _OF_OVERLAP, _ENOUGH)
  units = jnp.concatenate([-rests.overlap, jnp.eye(2, dtype=a.dtype)], 1)
  length, inverse = _length(a, (a > least[0]) & (a > share * size))
  along = b * inverse
  one = inverse * units[0]
  rest = c - along**2
  height, inverse = _length(
    rest,
    (rest > least[1]) & (rest > _OF_OTHER * eps * c) & (c > share * other),
  )
  two = inverse * (units[1] - along * one)
  outside = jnp.stack([length, jnp.zeros_like(length), along, height])
  return jnp.stack([one, two]), outside.reshape(2, 2)


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

  # The cond keeps XLA from adding up anew for each direction below.
  first, second = lax.cond(
    is_used, add_up, lambda: jax.tree.map(jnp.zeros_like, addition.rests)
  )

  def move(x, a, b):
    moved = _base.combine([keep, a, b], [x, first, second])
    return _base.cast_like(moved, x)

  return tuple(
    lax.cond(is_used, move, lambda x, a, b: x, x, a, b)
    for x, a, b in zip(basis, on_first, on_second, strict=True)
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
