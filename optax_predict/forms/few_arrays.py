"""A predictor, its state and what it sees of the parameters, in few arrays."""

from collections.abc import Callable
import math
from typing import Any

import jax
from jax import flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from optax_predict.core import checks
from optax_predict.core import elementwise
from optax_predict.core import packing
from optax_predict.core import trees
from optax_predict.engine import initial
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import PredictState

# So many numbers at most are one vector. Each array of its own costs a quarter of a
# second of compiling and the host some 50 microseconds a call; a copy of a million
# numbers, less than a millisecond. Larger models may be split over devices.
_MOST_NUMBERS = 2**22


def init_predictor(parts: Parts, params: Any) -> packing.Packed:
  """The state that a predictor of these parameters begins with."""
  # Without an anchor in it, a state could not tell what its predictor saw.
  seen = merge(params) if parts.keeps_anchor else params
  state = initial.init_state(parts, seen)
  return packing.pack(state, initial.leave_out_trees(parts, state))


def open_predictor(
  parts: Parts, state: Any, params: Any
) -> tuple[PredictState, PredictState]:
  """The predictor's state, and what it is packed like.

  Raises:
    ValueError: for a state that a checkpoint or another optimizer has left.
  """
  like = initial.shape_state(parts, params)

  def check(state, params):
    wanted = packing.pack(optax.tree.zeros_like(like), like)
    # What stands alone is compared below, each part by its name.
    if isinstance(state, packing.Packed) and (
      len(state.trees) == len(wanted.trees)
    ):
      wanted = wanted._replace(trees=state.trees)
    checks.check_state(state, wanted)
    predictor = packing.unpack(state, like)
    seen, _ = see(params, predictor)
    initial.check_state(parts, predictor, seen)

  # Of the shapes alone: nothing is computed.
  jax.eval_shape(check, state, params)
  return packing.unpack(state, like), like


def merge(params: Any) -> Any:
  """One vector, where parameters are several small arrays of one dtype.

  Arrays that are split over devices by their type stay as they are.
  """
  return _ravel(params) if _is_merged(params) else params


def see(tree: Any, state: PredictState) -> tuple[Any, Callable[[Any], Any]]:
  """What the predictor of a state sees of parameters or gradients, and the way back.

  One vector, after ``merge`` or in ``optax.flatten``; no other trace is left in the
  state.

  Raises:
    ValueError: for several arrays that do not hold as many numbers as the vector.
  """
  like = state.anchor.params
  if like is None or checks.is_like(tree, like) or not _is_vector(like):
    return tree, lambda seen: seen
  sizes = [jnp.size(x) for x in jax.tree.leaves(tree)]
  if len(sizes) > 1 and sum(sizes) != like.size:
    raise ValueError(
      f"params: {len(sizes)} arrays hold {sum(sizes)} numbers, but the state is of"
      f" parameters with {like.size}. Pass parameters like those that"
      " optimizer.init was given, or call optimizer.init(params) again."
    )
  return _ravel(tree), lambda seen: _unravel(seen, tree)


def merge_base_state(
  parts: Parts,
  base: optax.GradientTransformationExtraArgs,
  state: Any,
  params: Any,
) -> Any:
  """A base's state with vectors for its trees, where its predictor sees vectors too.

  And where the base treats all elements alike, as far as can be said without extra
  arguments.
  """
  if not parts.keeps_anchor or not _is_merged(params):
    return state
  like = shape_base_state(base, params)
  if like is None:
    return state
  try:
    found = elementwise.act_on_vectors(
      base.update, (params, like, params), params
    )
  except Exception:
    # Here it lacks an extra argument, or the axis that it takes a mean over. What
    # else is wrong with it, its first update says.
    return state
  if found is None:
    return state
  return _merge_trees(state, params)


def split_base_state(like: Any, state: Any, params: Any) -> Any:
  """A base's state with trees again, where ``merge_base_state`` made vectors.

  Args:
    like: the state as the base's ``init`` makes it, or its shapes.
    state: the state.
    params: what the trees are like.
  """
  return elementwise.map_trees(
    lambda tree, x: x if checks.is_like(x, tree) else _unravel(x, tree),
    like,
    params,
    state,
  )


def see_base(
  base: optax.GradientTransformationExtraArgs,
  state: Any,
  gradients: Any,
  params: Any,
  seen: Any,
  extra_args: dict[str, Any],
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
  """The base's update of what a predictor sees, ``(gradients, state, params)``.

  ``seen`` is what it sees of the parameters.
  """

  def update(gradients, state, params):
    updates, new = base.update(gradients, state, params, **extra_args)
    # Some make their moments like the parameters and keep them like the gradients.
    return updates, trees.keep_dtypes(new, state)

  if seen is params:
    return update
  like = shape_base_state(base, params)
  is_merged = like is not None and checks.is_like(
    state, jax.eval_shape(_merge_trees, like, params)
  )
  # Gradients of another dtype are no tree like the parameters.
  if is_merged and elementwise.is_tree(gradients, params):
    found = elementwise.act_on_vectors(
      update, (gradients, like, params), params
    )
    if found is not None:
      return found.apply

  # Of trees: the base is not of that kind, or not with these extra arguments.
  def update_trees(gradients, state, seen):
    if is_merged:
      state = split_base_state(like, state, params)
    updates, state = update(
      _unravel(gradients, params), state, _unravel(seen, params)
    )
    if is_merged:
      state = _merge_trees(state, params)
    return _ravel(updates), state

  return update_trees


def shape_base_state(base: optax.GradientTransformation, params: Any) -> Any:
  """The shapes of what the base's ``init`` makes; ``None`` if it reads values."""
  try:
    return jax.eval_shape(base.init, params)
  except TypeError:  # JAX's, for a tracer of which a number is asked.
    return None


def _is_merged(params):
  leaves = jax.tree.leaves(params)
  if len(leaves) < 2 or sum(map(jnp.size, leaves)) > _MOST_NUMBERS:
    return False
  is_one_dtype = len(set(map(jnp.result_type, leaves))) == 1
  return is_one_dtype and not any(map(_is_split, leaves))


def _merge_trees(state, params):
  return elementwise.map_trees(_ravel, state, params)


def _ravel(tree):
  return flatten_util.ravel_pytree(tree)[0]


# The way back of ravel_pytree takes the vector in one dtype only, and no shapes.
def _unravel(vector, like):
  """The tree of that vector, in its dtype, or in those of ``like`` if they differ."""
  leaves, treedef = jax.tree.flatten(like)
  dtypes = [jnp.result_type(x) for x in leaves]
  if len(set(dtypes)) == 1:
    dtypes = [vector.dtype] * len(leaves)
  ends = np.cumsum([math.prod(jnp.shape(x)) for x in leaves])
  parts = jnp.split(vector, ends[:-1])
  return jax.tree.unflatten(
    treedef,
    [
      x.reshape(jnp.shape(leaf)).astype(dtype)
      for x, leaf, dtype in zip(parts, leaves, dtypes, strict=True)
    ],
  )


def _is_vector(tree):
  return jax.tree_util.all_leaves([tree]) and jnp.ndim(tree) == 1


def _is_split(x):
  sharding = getattr(jax.typeof(x), "sharding", None)
  return any(axis is not None for axis in getattr(sharding, "spec", ()))
