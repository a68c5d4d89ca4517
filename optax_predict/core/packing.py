"""Many small arrays in few: one vector of each dtype.

Every array that a program takes or returns costs the host a microsecond or more, and
every number that a branch hands on is a copy of its own.
"""

from collections.abc import Callable
import math
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np


class Packed(NamedTuple):
  """A tree in few arrays.

  Attributes:
    vectors: the small arrays of each dtype, one after the other in the order of
      the tree; the dtypes in the order in which they first appear.
    trees: what stands alone, in the order of the tree.
  """

  vectors: tuple[jax.Array, ...]
  trees: tuple[Any, ...]


def pack(tree: Any, like: Any) -> Packed:
  """Puts the small arrays of a tree together.

  Args:
    tree: any tree.
    like: the same tree, of arrays or of their shapes, with an empty array in the
      place of every subtree that is to stand alone. Random keys always do.
  """
  places = jax.tree.leaves(like)
  treedef: Any = jax.tree.structure(like)
  alone: list[Any] = []
  small: dict[Any, list[jax.Array]] = {dtype: [] for dtype in _dtypes(places)}
  for place, part in zip(places, treedef.flatten_up_to(tree), strict=True):
    if _stands_alone(place):
      alone.append(part)
    else:
      small[place.dtype].append(jnp.reshape(part, [-1]))
  return Packed(tuple(map(jnp.concatenate, small.values())), tuple(alone))


def unpack(packed: Packed, like: Any) -> Any:
  """The tree that was packed, or what stands first in it.

  Args:
    packed: what :func:`pack` returned; its vectors may have leading axes.
    like: as there, or the first of its fields.
  """
  places, treedef = jax.tree.flatten(like)
  alone = iter(packed.trees)
  vectors = dict(zip(_dtypes(places), packed.vectors))
  begin = dict.fromkeys(vectors, 0)
  found = []
  for place in places:
    if _stands_alone(place):
      found.append(next(alone))
      continue
    vector, start = vectors[place.dtype], begin[place.dtype]
    begin[place.dtype] = end = start + math.prod(place.shape)
    part = lax.slice_in_dim(vector, start, end, axis=-1)
    found.append(part.reshape(*vector.shape[:-1], *place.shape))
  return jax.tree.unflatten(treedef, found)


def cond(
  predicate: jax.Array,
  true_fn: Callable[..., tuple],
  false_fn: Callable[..., tuple],
  packed: tuple[Any, Any],
  *operands: Any,
) -> tuple:
  """``lax.cond``, with the first operand and result in few arrays.

  Args:
    predicate: ``bool[]``.
    true_fn: ``true_fn(tree, *operands) -> (tree, ...)``.
    false_fn: likewise.
    packed: the tree, and the ``like`` of it.
    *operands: what else goes into the branches, as it is.

  Returns:
    What the branches return.
  """
  tree, like = packed

  def through(fn):
    def branch(inner, *operands):
      tree, *others = fn(unpack(close(inner), like), *operands)
      return close(pack(tree, like)), *others

    return branch

  inner, *others = lax.cond(
    predicate, through(true_fn), through(false_fn), pack(tree, like), *operands
  )
  return unpack(close(inner), like), *others


def close(packed: Packed) -> Packed:
  """Keeps XLA from moving each small array into the branches by itself."""
  return packed._replace(vectors=lax.optimization_barrier(packed.vectors))


def _dtypes(places):
  return dict.fromkeys(x.dtype for x in places if not _stands_alone(x))


def _stands_alone(place):
  # Random keys are of no dtype that a vector has.
  return 0 in place.shape or not isinstance(place.dtype, np.dtype)
