"""A basis of given vectors, in full precision, that vectors are sums of.

Two new vectors replace two of the basis. A vector that is left out is written as the
nearest sum of those that stay, which changes coordinates only. So a new pair costs
the writing of two vectors of the parameters' size.

In half precision nearly equal vectors would differ by rounding alone. For that there
is :mod:`rotation`, with the same functions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict.core import interfaces
from optax_predict.core import trees

# The part of a unit vector outside the span of others has a square that is known to
# so many units of rounding.
_ROUNDING = 16.0


class Addition(NamedTuple):
  """A basis of r vectors and two new ones, all of unit length.

  Attributes:
    vectors: the new ones, two trees that are not scaled yet.
    scales: what scales them to unit length, ``[2]``; 0 for a tree of zeros.
    coordinates: of both trees in all r + 2 vectors, ``[2, r + 2]``.
    products: inner products of all r + 2 vectors, ``[r + 2, r + 2]``.
    least: rounding error of a square, a real scalar.
    is_worn: always false, ``bool[]``: this basis does not wear out.
  """

  vectors: tuple[interfaces.PyTree, interfaces.PyTree]
  scales: jax.Array
  coordinates: jax.Array
  products: jax.Array
  least: jax.Array
  is_worn: jax.Array


class Reduction(NamedTuple):
  """From r + 2 vectors to r.

  Attributes:
    matrix: ``[r + 2, r]``; coordinates in the r + 2 vectors, times this, are
      coordinates in the r that stay.
    products: inner products of the r that stay, ``[r, r]``.
    source: index among the r + 2 of each that stays, ``int32[r]``.
  """

  matrix: jax.Array
  products: jax.Array
  source: jax.Array


def add(
  basis: Sequence[interfaces.PyTree],
  known: jax.Array,
  vectors: tuple[interfaces.PyTree, interfaces.PyTree],
  overlap: jax.Array,
  products: jax.Array,
  is_used: jax.Array,
) -> Addition:
  """Puts two vectors beside a basis.

  Args:
    basis: r trees.
    known: their inner products, ``[r, r]``.
    vectors: two trees.
    overlap: inner products of both with the basis, ``[2, r]``.
    products: inner products of the first with itself, of the first with the second,
      and of the second with itself, ``[3]``.
    is_used: whether the result will be used; not looked at here.
  """
  del is_used
  # The rounding of the leaf with the least precision.
  eps = max(jnp.finfo(x.dtype).eps for x in jax.tree.leaves((basis, known)))
  lengths = jnp.sqrt(products[::2])
  is_there = lengths > 0
  scales = jnp.where(is_there, 1 / jnp.where(is_there, lengths, 1), 0)
  cosine = products[1] * scales[0] * scales[1]
  # A unit vector's product with itself is 1 and needs no sum.
  own = jnp.diag(is_there.astype(lengths.dtype)).at[[0, 1], [1, 0]].set(cosine)
  beside = scales[:, None] * overlap
  return Addition(
    vectors=vectors,
    scales=scales,
    coordinates=jnp.pad(jnp.diag(lengths), ((0, 0), (len(basis), 0))),
    products=jnp.block([[known, beside.T], [beside, own]]),
    least=jnp.asarray(_ROUNDING * eps, lengths.dtype),
    is_worn=jnp.zeros([], bool),
  )


def reduce(rows: jax.Array, addition: Addition) -> Reduction:
  """Leaves two vectors out, one after the other: each time, where least is lost.

  What is lost with a vector is the sum of squares of its coordinates times the square
  of its part outside the span of the others. With G the inner products, that square is
  one over the vector's entry on the diagonal of the inverse of G.

  Args:
    rows: coordinates of the vectors to keep, each times its weight, ``[k, r + 2]``.
    addition: what ``add`` returned.
  """
  products = addition.products
  source = jnp.arange(len(products))
  matrix = jnp.eye(len(products), dtype=products.dtype)
  for _ in range(2):
    without, products, kept = _without_one(
      rows @ matrix, products, addition.least
    )
    matrix, source = matrix @ without, source[kept]
  return Reduction(matrix, products, source)


def reduced(
  basis: Sequence[interfaces.PyTree],
  addition: Addition,
  by: Reduction,
  is_used: jax.Array,
) -> tuple[interfaces.PyTree, ...]:
  """The next basis: vectors that stay keep their places, new ones fill the rest."""

  def put(index):
    def write(x):
      vector, scale = addition.vectors[index], addition.scales[index]
      return trees.cast_like(trees.combine([scale], [vector]), x)

    return write

  # Below 0 where the vector stays; a switch takes that for 0.
  branch = jnp.where(is_used, by.source - len(basis) + 1, 0)
  return tuple(
    lax.switch(n, [lambda x: x, put(0), put(1)], x)
    for x, n in zip(basis, branch, strict=True)
  )


def _without_one(rows, products, least):
  """Leaves out the vector that costs least; the last one takes its place.

  Returns:
    ``(matrix, products, kept)``: from the old coordinates to the new, the inner
    products of the vectors that stay, and their old indices.
  """
  size = len(products)
  index = jnp.arange(size)
  is_there = jnp.diagonal(products) > 0
  free = jnp.diag((~is_there).astype(products.dtype))
  values, vectors = jnp.linalg.eigh(products + free)
  # Where vectors are nearly equal, the rounding of their inner products makes some
  # eigenvalues negative. An inverse by elimination would be worthless then.
  values = jnp.maximum(values, 0)[None]
  inverse = (vectors / (values + least)) @ vectors.T
  products = (vectors * values) @ vectors.T
  products = jnp.where(is_there[:, None] & is_there[None], products, 0)
  loss = jnp.sum(rows**2, axis=0) / jnp.diagonal(inverse)
  out = jnp.argmin(jnp.where(is_there, loss, -1))
  nearest = -inverse[out] / inverse[out, out]
  nearest = jnp.where(is_there & (index != out), nearest, 0)
  matrix = jnp.eye(size, dtype=products.dtype).at[out].set(nearest)
  kept = index.at[out].set(size - 1)[:-1]
  return matrix[:, kept], products[kept][:, kept], kept
