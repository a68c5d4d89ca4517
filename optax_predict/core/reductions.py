"""Norms and inner products of trees: every sum that is as long as the parameters."""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import math
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict.core import interfaces
from optax_predict.core import trees

_SUMS_AT_ONCE = 7
_LONGEST_SUM = 4096
_LONGEST_BLOCK = 32768
_BLOCKS = 1024


def in_full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
  """The function, with products of small matrices in float32 or wider.

  Forecasts hang on small differences of them. By default a TPU multiplies in bfloat16
  and a GPU in TensorFloat-32.
  """

  @functools.wraps(function)
  def precise(*args, **kwargs):
    with jax.default_matmul_precision("highest"):
      return function(*args, **kwargs)

  return precise


def norm(tree: interfaces.PyTree) -> jax.Array:
  """Euclidean norm over all leaves, in float32 or wider."""
  return jnp.sqrt(inner_products([(tree, tree)])[0])


def inner_products(
  pairs: Sequence[tuple[interfaces.PyTree, interfaces.PyTree]],
) -> jax.Array:
  """Real parts of the inner products of pairs of trees, ``[n]``.

  A few pairs are reduced at once: that reads a tree they share once instead of
  once a pair. More than a few sums no longer fit a core's registers, and the
  reduction takes twice as long.
  """
  dtype = trees.tree_dtype(pairs)
  sums = []
  for leaves in zip(
    *(jax.tree.leaves(tree) for pair in pairs for tree in pair)
  ):
    products = [_real_product(a, b) for a, b in zip(leaves[::2], leaves[1::2])]
    size = math.ceil(len(products) / math.ceil(len(products) / _SUMS_AT_ONCE))
    for start in range(0, len(products), size):
      sums += _sums(products[start : start + size])
  if not sums:
    return jnp.zeros([len(pairs)], dtype)
  # Added up all at once: a sum of stacks, leaf by leaf, XLA takes apart one leaf
  # at a time, each in a pass over the whole program.
  found = jnp.stack([s.astype(dtype) for s in sums])
  return jnp.sum(found.reshape(-1, len(pairs)), axis=0)


def _sums(arrays):
  """The sum of each array, in one reduction, of blocks first where it is long.

  XLA adds up one by one on a CPU: a sum of four million squares is off by four
  parts in a thousand then, and by one in a million with blocks.
  """
  arrays = [a.astype(trees.wide_dtype(*arrays)) for a in arrays]
  shape = arrays[0].shape
  if math.prod(shape) <= _LONGEST_SUM:
    return _reduce(arrays, tuple(range(len(shape))))
  axis, trailing = len(shape) - 1, 1
  while trailing * shape[axis] <= _LONGEST_SUM:
    axis, trailing = axis - 1, trailing * shape[axis]
  # A power of two of blocks: a sharded axis is not cut anew.
  blocks = math.gcd(shape[axis], _BLOCKS)
  size = shape[axis] // blocks
  lead, rest = (*shape[:axis], blocks), shape[axis + 1 :]
  arrays = [a.reshape(*lead, size, *rest) for a in arrays]
  if size * trailing <= _LONGEST_BLOCK:
    return _sums(_reduce(arrays, tuple(range(axis + 1, arrays[0].ndim))))
  # An odd length has too few. It is cut anew, and what is left over summed alone.
  count = size * trailing // _LONGEST_SUM
  cut = size - size % count
  parts = [jnp.split(a, [cut], axis + 1) for a in arrays]
  heads = [a.reshape(*lead, count, cut // count, *rest) for a, _ in parts]
  sums = _sums(_reduce(heads, tuple(range(axis + 2, heads[0].ndim))))
  if cut == size:
    return sums
  tails = _sums([tail for _, tail in parts])
  return [x + y for x, y in zip(sums, tails)]


def _reduce(arrays, axes):
  # XLA rewrites a reduction of one operand into several that take longer to
  # compile; two operands are left alone.
  padded = arrays if len(arrays) > 1 else 2 * arrays
  return lax.reduce(
    padded,
    [jnp.zeros([], a.dtype) for a in padded],
    lambda x, y: [p + q for p, q in zip(x, y, strict=True)],
    axes,
  )[: len(arrays)]


def _real_product(a, b):
  if jnp.iscomplexobj(a):
    return a.real * b.real + a.imag * b.imag
  return trees.widen(a) * trees.widen(b)
