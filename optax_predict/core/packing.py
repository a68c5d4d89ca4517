"""Many small arrays in two: one vector of integers and one of real numbers.

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

from optax_predict.core import trees


class Packed(NamedTuple):
  """A tree in few arrays.

  Attributes:
    integers: its small arrays of integers and truth values, one after the other,
      ``int32[n]``.
    numbers: its small arrays of floating point, ``[m]``, in the widest of their
      dtypes, float32 at least: nothing is rounded.
    trees: what stands alone, in the order of the tree.
  """

  integers: jax.Array
  numbers: jax.Array
  trees: tuple[Any, ...]


def pack(tree: Any, like: Any) -> Packed:
  """Puts the small arrays of a tree together.

  Args:
    tree: any tree.
    like: the same tree, of arrays or of their shapes, with ``None`` in the place of
      every subtree that is to stand alone. So do random keys, complex numbers and
      integers of more than 32 bits.

  Raises:
    ValueError: if an array has another shape or dtype than ``like`` says.
  """
  dtypes, alone = _vectors(like), []
  small: dict[Any, list[Any]] = {kind: [] for kind in dtypes}
  treedef: Any = jax.tree.structure(like, is_leaf=_is_none)
  places = jax.tree_util.tree_leaves_with_path(like, is_leaf=_is_none)
  for (path, place), part in zip(
    places, treedef.flatten_up_to(tree), strict=True
  ):
    kind = _kind(place)
    if kind is None:
      alone.append(part)
      continue
    _check(path, part, place)
    small[kind].append(jnp.reshape(part, [-1]))
  integers, numbers = (
    jnp.concatenate(
      [x.astype(dtype) for x in small[kind]] or [jnp.zeros([0], dtype)]
    )
    for kind, dtype in dtypes.items()
  )
  return Packed(integers, numbers, tuple(alone))


def unpack(packed: Packed, like: Any) -> Any:
  """The tree that was packed, or the small arrays that stand first in it.

  Args:
    packed: what :func:`pack` returned; its vectors may have leading axes. Without
      its trees, ``None`` is put in their place.
    like: as there, or the first of its fields, with ``None`` for all others.
  """
  places, treedef = jax.tree.flatten(like, is_leaf=_is_none)
  alone = iter(packed.trees)
  vectors = dict(zip(_vectors(like), packed))
  begin = dict.fromkeys(vectors, 0)
  found = []
  for place in places:
    kind = _kind(place)
    if kind is None:
      found.append(next(alone, None))
      continue
    vector, start = vectors[kind], begin[kind]
    begin[kind] = end = start + math.prod(place.shape)
    part = lax.slice_in_dim(vector, start, end, axis=-1)
    part = part.reshape(*vector.shape[:-1], *place.shape)
    found.append(part.astype(place.dtype))
  return jax.tree.unflatten(treedef, found)


def cond(
  predicate: jax.Array,
  true_fn: Callable[[Any], Any],
  false_fn: Callable[[Any], Any],
  tree: Any,
  like: Any,
) -> Any:
  """``lax.cond`` of functions from a tree to such a tree, in few arrays."""

  def through(fn):
    return lambda packed: close(pack(fn(unpack(close(packed), like)), like))

  found = lax.cond(
    predicate, through(true_fn), through(false_fn), pack(tree, like)
  )
  return unpack(close(found), like)


def close(packed: Packed) -> Packed:
  """Keeps XLA from moving each small array into the branches by itself."""
  integers, numbers = lax.optimization_barrier(packed[:2])
  return packed._replace(integers=integers, numbers=numbers)


def _is_none(x):
  return x is None


def _vectors(like):
  """The dtype of each vector, by the kind of what it holds."""
  numbers = [x for x in jax.tree.leaves(like) if _kind(x) == "numbers"]
  return {
    "integers": jnp.dtype(jnp.int32),
    "numbers": trees.wide_dtype(*numbers),
  }


def _kind(place):
  """What vector it goes into; ``None`` where it stands alone."""
  if place is None or not isinstance(place.dtype, np.dtype):
    return None
  if jnp.issubdtype(place.dtype, jnp.floating):
    return "numbers"
  if place.dtype == bool:
    return "integers"
  if jnp.issubdtype(place.dtype, jnp.integer):
    largest = jnp.iinfo(place.dtype).max
    return "integers" if largest <= jnp.iinfo(jnp.int32).max else None
  return None


def _check(path, part, place):
  got = jnp.shape(part), jnp.result_type(part)
  if got != (place.shape, place.dtype):
    raise ValueError(
      f"state: {jax.tree_util.keystr(path)} came back as {got[1]}{list(got[0])},"
      f" but init made it {place.dtype}{list(place.shape)}. A horizon and a"
      " forecaster must return states as their init makes them."
    )
