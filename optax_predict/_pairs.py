"""How the secant forecaster keeps its pairs: in a few directions that they share.

What a forecast needs of m pairs are their inner products with other vectors, and
sums of them. As coordinates in a basis, either is a pass over the basis.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict import _backtest
from optax_predict import _base
from optax_predict import _basis

# Share of its say in the choice of directions that a pair keeps with each pair
# that follows.
_FADING = 0.7


class Pairs(NamedTuple):
  """Pairs in a basis; m is how many there are, r how many directions.

  Attributes:
    basis: r trees, orthonormal; zeros where there is no direction yet.
    displacements: ``[m, r]``, each row the coordinates of an s_j.
    changes: ``[m, r]``, each row the coordinates of a y_j.
    found: how many directions there are, ``int32[]``; the first ones.
    is_worn: 1 when the basis is to be given up at the next pair, ``int32[]``.
  """

  basis: tuple[_base.PyTree, ...]
  displacements: jax.Array
  changes: jax.Array
  found: jax.Array
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


def init(m: int, directions: int, params: _base.PyTree, dtype: Any) -> Pairs:
  """No pairs: zeros."""
  scalar = _base.tree_dtype(params)
  return Pairs(
    tuple(_base.zeros(params, dtype) for _ in range(directions)),
    jnp.zeros([m, directions], scalar),
    jnp.zeros([m, directions], scalar),
    jnp.zeros([], jnp.int32),
    jnp.zeros([], jnp.int32),
  )


def grams(pairs: Pairs) -> Grams:
  """Inner products among the pairs."""
  s, y = pairs.displacements, pairs.changes
  return Grams(s @ s.T, y @ s.T, y @ y.T)


def products(pairs: Pairs, sums: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Inner products of all s_j and of all y_j with a vector, ``[m]`` each.

  Args:
    pairs: the pairs.
    sums: the vector's inner products with the basis, ``[r]``.
  """
  return pairs.displacements @ sums, pairs.changes @ sums


def weights(
  pairs: Pairs, on_displacements: jax.Array, on_changes: jax.Array
) -> jax.Array:
  """A sum of the pairs as one of the basis: its weights, ``[r]``."""
  return on_displacements @ pairs.displacements + on_changes @ pairs.changes


def put(
  pairs: Pairs,
  pair: tuple[_base.PyTree, _base.PyTree],
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
    scale: what both are multiplied by to be kept.
    sums: inner products of both with the basis, ``[2, r]``.
    products: of the displacement with itself, of both, of the change with
      itself, ``[3]``.
    write: ``bool[m]``, set where the pair is put; nowhere for no pair.
    age: how many pairs came after each, with this one, ``[m]``.
  """
  is_pair, is_kept = jnp.any(write), pairs.is_worn == 0
  r = len(pairs.basis)
  addition = _basis.add(pairs.basis, pair, sums, products, is_kept, is_pair)
  s, y = (
    jnp.where(
      write[:, None],
      new,
      jnp.where(is_kept, jnp.pad(old, ((0, 0), (0, 2))), 0),
    )
    for old, new in zip(
      (pairs.displacements, pairs.changes),
      scale * addition.coordinates,
      strict=True,
    )
  )
  say = _FADING ** age.astype(s.dtype)[:, None]
  largest = jnp.sqrt(jnp.max(jnp.sum(y * y, axis=1)))
  y_say = say / jnp.maximum(largest, _backtest.tiny(largest))
  is_direction = jnp.concatenate(
    [(jnp.arange(r) < pairs.found) & is_kept, addition.is_direction]
  )
  turn = _basis.turn(jnp.concatenate([say * s, y_say * y]), is_direction)
  found = jnp.minimum(jnp.sum(is_direction, dtype=jnp.int32), r)
  is_worn = addition.is_worn.astype(jnp.int32)
  return Pairs(
    basis=_basis.turned(pairs.basis, addition, turn, is_kept, is_pair),
    displacements=jnp.where(is_pair, s @ turn.matrix, pairs.displacements),
    changes=jnp.where(is_pair, y @ turn.matrix, pairs.changes),
    found=jnp.where(is_pair, found, pairs.found),
    is_worn=jnp.where(is_pair, is_worn, pairs.is_worn),
  )
