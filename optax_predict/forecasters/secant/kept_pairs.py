"""How the secant forecaster keeps its pairs: as sums of a few vectors.

A forecast needs two things of m pairs: their inner products with other vectors, and
sums of them. For pairs that are coordinates in a basis, each is one pass over the
basis.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict.core import interfaces
from optax_predict.core import trees
from optax_predict.forecasters.secant import model
from optax_predict.forecasters.secant import rotation
from optax_predict.forecasters.secant import selection

# What is kept is chosen by all pairs. The weight of a pair in that choice falls by
# this factor with each later pair.
_FADING = 0.7


class Pairs(NamedTuple):
  """m pairs in a basis of r vectors.

  Attributes:
    basis: r trees of unit length. A place that is empty, where ``products`` is 0, may
      hold anything.
    displacements: ``[m, r]``; each row holds the coordinates of an s_j.
    changes: ``[m, r]``; each row holds the coordinates of a y_j.
    products: ``[r, r]``, inner products of the basis; 0 for empty places.
    is_worn: 1 if the basis is to be given up at the next pair, ``int32[]``.
  """

  basis: tuple[interfaces.PyTree, ...]
  displacements: jax.Array
  changes: jax.Array
  products: jax.Array
  is_worn: jax.Array


class Grams(NamedTuple):
  """Inner products among the pairs, ``[m, m]`` each.

  Attributes:
    gram: s_i . s_j.
    cross: y_i . s_j.
    change_gram: y_i . y_j.
  """

  gram: jax.Array
  cross: jax.Array
  change_gram: jax.Array


def init(
  m: int, directions: int, params: interfaces.PyTree, dtype: Any
) -> Pairs:
  """No pairs: zeros."""
  scalar = trees.tree_dtype(params)
  return Pairs(
    tuple(trees.zeros(params, dtype) for _ in range(directions)),
    jnp.zeros([m, directions], scalar),
    jnp.zeros([m, directions], scalar),
    jnp.zeros([directions, directions], scalar),
    jnp.zeros([], jnp.int32),
  )


def grams(pairs: Pairs) -> Grams:
  """Inner products among the pairs."""
  s, y, b = pairs.displacements, pairs.changes, pairs.products
  return Grams(s @ b @ s.T, y @ b @ s.T, y @ b @ y.T)


def products(pairs: Pairs, sums: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Inner products of all s_j and of all y_j with a vector, ``[m]`` each.

  Args:
    pairs: the pairs.
    sums: the vector's inner products with the basis, ``[r]``.
  """
  return pairs.displacements @ sums, pairs.changes @ sums


def known_products(pairs: Pairs) -> jax.Array:
  """Inner products of the basis, ``[r, r]``; ``[0, 0]`` where they are coarse.

  Of vectors that are rounded to half precision they are those before.
  """
  if _is_coarse(pairs.basis):
    return jnp.zeros_like(pairs.products, shape=(0, 0))
  return pairs.products


def weights(
  pairs: Pairs, on_displacements: jax.Array, on_changes: jax.Array
) -> jax.Array:
  """Weights in a sum over the basis that equals a sum over the pairs, ``[r]``."""
  return on_displacements @ pairs.displacements + on_changes @ pairs.changes


def put(
  pairs: Pairs,
  pair: tuple[interfaces.PyTree, interfaces.PyTree],
  scale: jax.Array,
  sums: jax.Array,
  products: jax.Array,
  write: jax.Array,
  age: jax.Array,
) -> Pairs:
  """Takes in a pair.

  Args:
    pairs: the pairs so far.
    pair: a displacement and a change, trees like the parameters.
    scale: factor that scales both to how they are kept.
    sums: inner products of both with the basis, ``[2, r]``.
    products: inner products of the displacement with itself, of the displacement
      with the change, and of the change with itself, ``[3]``.
    write: ``bool[m]``, true in the slot that the pair is put into; nowhere if there
      is no pair.
    age: for each slot, how many pairs came after it, this one included, ``[m]``.
  """
  is_pair = jnp.any(write)
  way = rotation if _is_coarse(pairs.basis) else selection
  keep = (1 - pairs.is_worn).astype(scale.dtype)
  known = keep * pairs.products
  addition = way.add(pairs.basis, known, pair, sums, products, is_pair)
  s, y = (
    jnp.where(write[:, None], new, jnp.pad(keep * old, ((0, 0), (0, 2))))
    for old, new in zip(
      (pairs.displacements, pairs.changes),
      scale * addition.coordinates,
      strict=True,
    )
  )
  say = _FADING ** age.astype(s.dtype)[:, None]
  squares = jnp.sum((y @ addition.products) * y, axis=1)
  largest = jnp.sqrt(jnp.max(squares))
  y_say = say / jnp.maximum(largest, model.tiny(largest))
  by = way.reduce(jnp.concatenate([say * s, y_say * y]), addition)
  is_worn = addition.is_worn.astype(jnp.int32)
  return Pairs(
    basis=way.reduced(pairs.basis, addition, by, is_pair),
    displacements=jnp.where(is_pair, s @ by.matrix, pairs.displacements),
    changes=jnp.where(is_pair, y @ by.matrix, pairs.changes),
    products=jnp.where(is_pair, by.products, pairs.products),
    is_worn=jnp.where(is_pair, is_worn, pairs.is_worn),
  )


def _is_coarse(basis):
  """Whether any leaf is kept in half precision."""
  eps = jnp.finfo(jnp.float32).eps
  return any(jnp.finfo(x.dtype).eps > eps for x in jax.tree.leaves(basis))
