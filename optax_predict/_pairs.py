"""How the secant forecaster keeps its pairs: each as it is, or in a basis.

What a forecast needs of m pairs are their inner products with other vectors, and
sums of them. Either way that is a pass over a few trees like the parameters.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict import _backtest
from optax_predict import _base
from optax_predict import _basis

# Share of its say in the choice of directions that a pair keeps with each pair
# that follows.
_FADING = 0.7


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


class Keeping(NamedTuple):
  """A way of keeping m pairs (s_j, y_j).

  Attributes:
    init: ``init(params, dtype) -> kept``, zeros.
    trees: ``trees(kept)``: the trees that are kept.
    products: ``products(kept, sums) -> (s, y)``: the pairs' inner products with
      a vector, ``[m]`` each, from those of ``trees``.
    weights: ``weights(kept, on_displacements, on_changes)``: weights of
      ``trees`` in a sum of the pairs.
    rounded: ``rounded(tree, kept) -> tree``: a vector as it is kept.
    put: ``put(kept, pair, sums, products, grams, write, age) -> (kept, grams)``:
      takes in a pair where ``write`` is set. ``sums`` are the inner products of
      ``trees`` with both parts of the pair, ``products`` what follows from them,
      and ``age`` is how many pairs came after each, with this one.
  """

  init: Callable[..., Any]
  trees: Callable[[Any], Sequence[_base.PyTree]]
  products: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]
  weights: Callable[..., jax.Array]
  rounded: Callable[[_base.PyTree, Any], _base.PyTree]
  put: Callable[..., tuple[Any, Grams]]


class Slots(NamedTuple):
  """Pairs as they are.

  Attributes:
    displacements: m trees s_j.
    changes: m trees y_j.
  """

  displacements: tuple[_base.PyTree, ...]
  changes: tuple[_base.PyTree, ...]


class InBasis(NamedTuple):
  """Pairs in a basis.

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


def slots(m: int) -> Keeping:
  """Keeps every pair as it is, in two trees."""

  def init(params, dtype):
    return Slots(
      tuple(_base.zeros(params, dtype) for _ in range(m)),
      tuple(_base.zeros(params, dtype) for _ in range(m)),
    )

  def put(kept, pair, sums, products, grams, write, age):
    del sums, age
    p = products
    s_s = jnp.where(write, 1, p.s_d)
    y_y = jnp.where(write, p.square, p.y_y)
    grams = Grams(
      gram=_put(grams.gram, write, s_s, s_s),
      cross=_put(
        grams.cross,
        write,
        jnp.where(write, p.d_y, p.s_y),
        jnp.where(write, p.d_y, p.y_d),
      ),
      change_gram=_put(grams.change_gram, write, y_y, y_y),
    )
    return Slots(*_fill(kept, write, pair)), grams

  return Keeping(
    init=init,
    trees=lambda kept: [*kept.changes, *kept.displacements],
    products=lambda kept, sums: (sums[m:], sums[:m]),
    weights=lambda kept, on_s, on_y: jnp.concatenate([on_y, on_s]),
    # Rounded like what is kept, so that inner products are of what is kept.
    rounded=lambda tree, kept: _base.cast_like(tree, kept.changes[0]),
    put=put,
  )


def in_basis(m: int, directions: int) -> Keeping:
  """Keeps what of the pairs lies in a few directions, chosen as they come."""

  def init(params, dtype):
    scalar = _base.tree_dtype(params)
    return InBasis(
      tuple(_base.zeros(params, dtype) for _ in range(directions)),
      jnp.zeros([m, directions], scalar),
      jnp.zeros([m, directions], scalar),
      jnp.zeros([], jnp.int32),
      jnp.zeros([], jnp.int32),
    )

  def put(kept, pair, sums, products, grams, write, age):
    del grams
    is_pair, is_kept = jnp.any(write), kept.is_worn == 0
    addition = _basis.add(
      kept.basis,
      pair,
      jnp.stack(sums),
      jnp.stack([products.d_d, products.square]),
      is_kept,
      is_pair,
    )
    s, y = (
      jnp.where(
        write[:, None],
        new,
        jnp.where(is_kept, jnp.pad(old, ((0, 0), (0, 2))), 0),
      )
      for old, new in zip(
        (kept.displacements, kept.changes), addition.coordinates, strict=True
      )
    )
    say = _FADING ** age.astype(s.dtype)[:, None]
    largest = jnp.sqrt(jnp.max(jnp.sum(y * y, axis=1)))
    y_say = say / jnp.maximum(largest, _backtest.tiny(largest))
    is_direction = jnp.concatenate(
      [
        (jnp.arange(directions) < kept.found) & is_kept,
        addition.is_direction,
      ]
    )
    turn = _basis.turn(jnp.concatenate([say * s, y_say * y]), is_direction)
    found = jnp.minimum(jnp.sum(is_direction, dtype=jnp.int32), directions)
    s, y = (
      jnp.where(is_pair, new @ turn.matrix, old)
      for old, new in ((kept.displacements, s), (kept.changes, y))
    )
    kept = InBasis(
      basis=_basis.turned(kept.basis, addition, turn, is_kept, is_pair),
      displacements=s,
      changes=y,
      found=jnp.where(is_pair, found, kept.found),
      is_worn=jnp.where(
        is_pair, addition.is_worn.astype(jnp.int32), kept.is_worn
      ),
    )
    return kept, Grams(s @ s.T, y @ s.T, y @ y.T)

  return Keeping(
    init=init,
    trees=lambda kept: kept.basis,
    products=lambda kept, sums: (
      kept.displacements @ sums,
      kept.changes @ sums,
    ),
    weights=lambda kept, on_s, on_y: (
      on_s @ kept.displacements + on_y @ kept.changes
    ),
    rounded=lambda tree, kept: tree,
    put=put,
  )


def _fill(kept, write, new):
  """Puts a pair into the slots where ``write`` is set.

  One cond a slot: the slot that is written costs its bytes, the others nothing.
  """
  pairs = list(zip(*kept))
  new = _base.cast_like(new, pairs[0])
  filled = [
    lax.cond(write[j], lambda old, new: new, lambda old, new: old, pair, new)
    for j, pair in enumerate(pairs)
  ]
  return tuple(zip(*filled))


def _put(matrix, write, row, column):
  """Replaces the row and the column where ``write`` is set."""
  matrix = jnp.where(write[:, None], row[None, :], matrix)
  return jnp.where(write[None, :], column[:, None], matrix)
