"""A basis of orthonormal directions, in half precision, that vectors are sums of.

Two new vectors add up to two directions. Then the basis is turned so that the two
directions that matter least can be left out. Of a vector, only the part outside the
span is stored. Rounding is a share of that part, so the difference of nearly equal
vectors is not lost in it.

In full precision the vectors themselves can be the basis: :mod:`selection` has the
same functions, and turns nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict.core import interfaces
from optax_predict.core import reductions
from optax_predict.core import trees

# The rest of a vector outside the span adds a direction only if it is more than
# rounding:
# - its length is above this many roundings of the vector's length (sums of many
#   numbers are off by more than one rounding);
_OF_VECTOR = 256
# - for the second vector: its square after the first direction is taken out is above
#   this many roundings of its square before;
_OF_OTHER = 8192
# - the rest still has more than this share of its square outside the span when it is
#   projected once more.
_OF_OVERLAP = 0.5
# A basis is worn, that is, no longer orthonormal, if a projection leaves more than
# this share of the projected length in the span. bfloat16 comes to that after long.
_WORN = 1 / 32


class Addition(NamedTuple):
  """Two vectors and the directions that they add to a basis of r.

  Attributes:
    rests: two trees, the parts of the vectors outside the span. Basis and rests
      together span both vectors.
    weights: the two directions as sums of the basis and of both rests,
      ``[2, r + 2]``; zeros for a direction that is not needed.
    coordinates: of both vectors in the basis and these directions,
      ``[2, r + 2]``.
    products: inner products of the basis and these directions,
      ``[r + 2, r + 2]``: 1 on the diagonal for each direction there is, else 0.
    is_worn: whether the basis has lost its orthonormality, ``bool[]``.
  """

  rests: tuple[interfaces.PyTree, interfaces.PyTree]
  weights: jax.Array
  coordinates: jax.Array
  products: jax.Array
  is_worn: jax.Array


class Reduction(NamedTuple):
  """From r directions and two additions to the next r.

  Attributes:
    matrix: ``[r + 2, r]``; coordinates in the r + 2 directions, times this, are
      coordinates in the next r.
    products: inner products of the next r, ``[r, r]``.
    reflections: ``[2, r + 2]``. The reflection ``I - u u^T`` by the first row, then
      the one by the second, moves the two directions that are left out to the end.
  """

  matrix: jax.Array
  products: jax.Array
  reflections: jax.Array


def add(
  basis: Sequence[interfaces.PyTree],
  known: jax.Array,
  vectors: tuple[interfaces.PyTree, interfaces.PyTree],
  overlap: jax.Array,
  products: jax.Array,
  is_used: jax.Array,
) -> Addition:
  """What two vectors add to a basis, by the Gram-Schmidt process.

  The basis is orthonormal to the precision that it is stored in. The rest of each
  vector is projected once more (Kahan's "twice is enough").

  Args:
    basis: r trees.
    known: their inner products, ``[r, r]``: 1 on the diagonal for each direction
      there is, else 0.
    vectors: two trees.
    overlap: inner products of both with the basis, ``[2, r]``.
    products: inner products of the first with itself, of the first with the second,
      and of the second with itself, ``[3]``.
    is_used: whether the result will be used; if not, nothing is subtracted.

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
      trees.combine([one, *-inside], [vector, *basis])
      for vector, inside in zip(vectors, taken, strict=True)
    )
    found = reductions.inner_products(
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
  # The projection of a vector that is orthogonal to the span is rounding alone.
  rounding = jnp.maximum(_WORN**2 * jnp.sum(taken**2, axis=1), least)
  return Addition(
    rests=rests,
    weights=weights,
    coordinates=jnp.concatenate([taken + left, outside], 1),
    products=jnp.diag(is_direction.astype(taken.dtype)),
    is_worn=jnp.any(inside > rounding),
  )


def _directions(overlap, products, least):
  """The two new directions, and both vectors' coordinates in them.

  Returns:
    ``(weights, coordinates)``: ``[2, r + 2]`` as in ``Addition``, and ``[2, 2]``.
  """
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
  """Keeps the r directions in which the vectors together are largest.

  Empty places are left out first: those of the two additions, then those of the
  basis in order.

  Args:
    rows: coordinates of the vectors to keep in the basis and its additions, each
      times its weight, ``[k, r + 2]``.
    addition: what ``add`` returned.
  """
  size = rows.shape[1]
  is_direction = jnp.diagonal(addition.products) > 0
  order = jnp.concatenate([jnp.arange(size, 2, -1), size + jnp.arange(1, 3)])
  order = order.astype(rows.dtype)
  moments = rows.T @ rows
  none = jnp.where(is_direction, 0, -order) * jnp.max(jnp.diagonal(moments))
  # What is kept is spanned by the leading eigenvectors of the second moments.
  _, vectors = jnp.linalg.eigh(moments + jnp.diag(none))
  first = _reflection(vectors[:, 0], -1)
  second = _reflection(vectors[:, 1] - first * (first @ vectors[:, 1]), -2)
  reflections = jnp.stack([first, second])
  # With zeros for reflections the additions are left out.
  is_known = jnp.all(jnp.isfinite(reflections))
  reflections = jnp.where(is_known, reflections, 0)
  matrix = jnp.eye(size, dtype=rows.dtype)
  for u in reflections:
    matrix -= jnp.outer(matrix @ u, u)
  is_found = jnp.arange(size - 2) < jnp.sum(is_direction)
  products = jnp.diag(is_found.astype(rows.dtype))
  return Reduction(matrix[:, :-2], products, reflections)


def reduced(
  basis: Sequence[interfaces.PyTree],
  addition: Addition,
  by: Reduction,
  is_used: jax.Array,
) -> tuple[interfaces.PyTree, ...]:
  """The next basis; the same one if ``is_used`` is not set.

  Each direction changes by a sum of the same two trees. So it is written in its
  place, and no second basis is ever held.
  """
  r = len(basis)
  u, v = by.reflections
  # A tree of a basis that was given up has no meaning: it is multiplied by 0.
  keep = jnp.diagonal(addition.products)[:r]
  sums = by.reflections[:, r:] @ addition.weights
  sums = sums.at[:, :r].add(by.reflections[:, :r]).at[:, :r].multiply(keep)
  # With E the directions, direction i becomes
  # e_i - u_i (u . E) - v_i ((v . E) - (u . v) (u . E)).
  on_first = v[:r] * (u @ v) - u[:r]
  on_second = -v[:r]

  def add_up():
    vectors = [*basis, *addition.rests]
    return tuple(trees.combine([*weights], vectors) for weights in sums)

  # Without the cond, XLA computes both sums again for each direction below.
  first, second = lax.cond(
    is_used, add_up, lambda: jax.tree.map(jnp.zeros_like, addition.rests)
  )

  def move(x, keep, a, b):
    moved = trees.combine([keep, a, b], [x, first, second])
    return trees.cast_like(moved, x)

  return tuple(
    lax.cond(is_used, move, lambda x, *_: x, x, *weights)
    for x, *weights in zip(basis, keep, on_first, on_second, strict=True)
  )


def _length(square, is_resolved):
  """A length and its inverse; zeros for a length that is rounding alone."""
  length = jnp.sqrt(jnp.where(is_resolved, square, 1))
  return tuple(jnp.where(is_resolved, x, 0) for x in (length, 1 / length))


def _reflection(unit, axis):
  """u, for the reflection I - u u^T that moves a unit vector onto an axis."""
  sign = jnp.where(unit[axis] < 0, -1, 1).astype(unit.dtype)
  u = unit.at[axis].add(sign)
  return u * jnp.sqrt(2 / (u @ u))
