"""Arithmetic of trees that ``optax.tree`` does not have: in float32 or wider."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optax_predict.core import checks

PyTree = Any


def wide_dtype(*arrays: Any) -> Any:
  """Real dtype to sum ``arrays`` in: float64 if any is 64-bit, else float32."""
  bits = [jnp.finfo(jnp.result_type(a)).bits for a in arrays]
  return jnp.dtype(jnp.float64 if 64 in bits else jnp.float32)


def tree_dtype(tree: PyTree) -> Any:
  """Real dtype of scalars computed from a whole tree: float32 or float64."""
  return wide_dtype(*jax.tree.leaves(tree))


def widen(x: jax.Array) -> jax.Array:
  """Casts an array to float32 or wider, complex64 or wider when complex."""
  if jnp.iscomplexobj(x):
    return x
  return x.astype(wide_dtype(x))


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
  """Casts each leaf to the dtype of ``like``'s, to its largest number at most.

  A forecast is computed in float32 or wider. In float16 it could overflow even
  where every gradient it was made from did not.

  Raises:
    ValueError: if structure or a leaf's shape differs; names the leaf.
  """
  checks.check_like("gradients", tree, like)

  def cast(leaf, ref):
    dtype = jnp.dtype(ref.dtype)
    if leaf.dtype == dtype:
      return leaf
    if jnp.finfo(dtype).max < jnp.finfo(
      leaf.dtype
    ).max and not jnp.iscomplexobj(leaf):
      limit = jnp.asarray(jnp.finfo(dtype).max, leaf.dtype)
      leaf = jnp.clip(leaf, -limit, limit)
    return leaf.astype(dtype)

  return jax.tree.map(cast, tree, like)


def keep_dtypes(tree: PyTree, like: PyTree) -> PyTree:
  """Casts each array whose dtype is not that of its counterpart in ``like``.

  Unlike ``optax.tree.cast_like`` it leaves all others as they are: random keys, and
  weak types. So it does with a tree of another structure.
  """
  structure: Any = jax.tree.structure(like)
  if jax.tree.structure(tree) != structure:
    return tree

  def keep(x, ref):
    dtype = getattr(ref, "dtype", None)
    if dtype is None or getattr(x, "dtype", dtype) == dtype:
      return x
    return x.astype(dtype)

  return jax.tree.map(keep, tree, like)


def difference(x: PyTree, y: PyTree) -> PyTree:
  """The first tree less the second, each leaf in float32 or wider."""
  return jax.tree.map(lambda a, b: widen(a) - widen(b), x, y)


def zeros(params: PyTree, dtype: Any = None) -> PyTree:
  """Zeros like the parameters, real ones in ``dtype`` if one is given."""

  def leaf(p):
    return jnp.zeros_like(p, dtype=None if jnp.iscomplexobj(p) else dtype)

  return jax.tree.map(leaf, params)


def where(condition: jax.Array, new: PyTree, old: PyTree) -> PyTree:
  """Elementwise choice that keeps the dtypes of ``old``."""
  new = cast_like(new, old)
  return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def scaled(scale: jax.Array, tree: PyTree) -> PyTree:
  """Scales a tree and keeps its dtypes; 0 gives zeros whatever it holds."""

  def leaf(x):
    longer = widen(x) * scale.astype(wide_dtype(x))
    return jnp.where(scale > 0, longer, 0).astype(x.dtype)

  return jax.tree.map(leaf, tree)


def combine(weights: Sequence[jax.Array], trees: Sequence[PyTree]) -> PyTree:
  """Weighted sum of trees, each leaf in float32 or wider."""

  def leaf_sum(*leaves):
    total = None
    for weight, leaf in zip(weights, leaves, strict=True):
      term = weight.astype(wide_dtype(leaf)) * widen(leaf)
      total = term if total is None else total + term
    return total

  return jax.tree.map(leaf_sum, *trees)
