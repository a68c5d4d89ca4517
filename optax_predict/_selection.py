"""A few vectors that many are sums of: two new ones take the place of two of them.

What is left out is written as the nearest sum of what stays. No vector is changed
where it is kept, so that a new pair costs the writing of two: the parameters' size
is met in nothing else here but two sums per vector, which a forecast needs anyway.

It asks for vectors in full precision. In half of it, nearly equal ones differ by
rounding alone: :mod:`_basis` is for those, with the same functions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict import _base

# What of a unit vector lies outside the span of others is known to the root of so
# many units of rounding.
_ROUNDING = 16.0


class Addition(NamedTuple):
  """Two vectors beside r; all are of unit length.

  Attributes:
    vectors: two trees.
    scales: what they are multiplied by, ``[2]``; 0 for zeros.
    coordinates: of both trees in all r + 2 vectors, ``[2, r + 2]``.
    products: inner products of all vectors, ``[r + 2, r + 2]``.
    least: what of a square is rounding, a real scalar.
    is_worn: whether they are of no more use, ``bool[]``: never.
  """

  vectors: tuple[_base.PyTree, _base.PyTree]
  scales: jax.Array
  coordinates: jax.Array
  products: jax.Array
  least: jax.Array
  is_worn: jax.Array


class Reduction(NamedTuple):
  """From r + 2 vectors to r.

  Attributes:
    matrix: coordinates in the former times this are those in the latter,
      ``[r + 2, r]``.
    products: inner products of the latter, ``[r, r]``.
    source: which of the former each is, ``int32[r]``.
  """

  matrix: jax.Array
  products: jax.Array
  source: jax.Array


def add(
  basis: Sequence[_base.PyTree],
  known: jax.Array,
  vectors: tuple[_base.PyTree, _base.PyTree],
  overlap: jax.Array,
  products: jax.Array,
  is_used: jax.Array,
) -> Addition:
  """Two vectors more.

  Args:
    basis: r trees.
    known: their inner products, ``[r, r]``.
    vectors: two trees.
    overlap: inner products of both with the basis, ``[2, r]``.
    products: of the first with itself, of both, of the second with itself,
      ``[3]``.
    is_used: whether the result is.
  """
  del is_used
  # Of the leaf that is kept in the least precision.
  eps = max(jnp.finfo(x.dtype).eps for x in jax.tree.leaves((basis, known)))
  lengths = jnp.sqrt(products[::2])
  is_there = lengths > 0
  scales = jnp.where(is_there, 1 / jnp.where(is_there, lengths, 1), 0)
  cosine = products[1] * scales[0] * scales[1]
  # With itself, a unit vector: no sum is needed for that.
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
  """Leaves two out, one after the other: the one in which least is lost.

  That is the sum of squares of its coordinates times the square of what of it lies
  outside the span of the others, which is one over the diagonal of the inverse of
  the inner products.

  Args:
    rows: coordinates of vectors, each weighted by how much it counts,
      ``[k, r + 2]``.
    addition: what ``add`` found.
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
  basis: Sequence[_base.PyTree],
  addition: Addition,
  by: Reduction,
  is_used: jax.Array,
) -> tuple[_base.PyTree, ...]:
  """The vectors that stay, each in its place, and the new ones in the others'."""

  def put(index):
    def write(x):
      vector, scale = addition.vectors[index], addition.scales[index]
      return _base.cast_like(_base.combine([scale], [vector]), x)

    return write

  # Below 0, which a switch takes for 0, where the vector stays.
  branch = jnp.where(is_used, by.source - len(basis) + 1, 0)
  return tuple(
    lax.switch(n, [lambda x: x, put(0), put(1)], x)
    for x, n in zip(basis, branch, strict=True)
  )


def _without_one(rows, products, least):
  """A matrix that leaves one vector out, the others' products, and which they are.

  The last takes the place of the one that is left out.
  """
  size = len(products)
  index = jnp.arange(size)
  is_there = jnp.diagonal(products) > 0
  free = jnp.diag((~is_there).astype(products.dtype))
  values, vectors = jnp.linalg.eigh(products + free)
  # Of vectors that are nearly equal, what sums over them are off by leaves some
  # below zero: an inverse by elimination would be anything.
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
