"""A predictor, its state and what it sees of the parameters, in few arrays."""

from collections.abc import Callable
from typing import Any

import jax
from jax import flatten_util
import jax.numpy as jnp
import optax

from optax_predict.core import checks
from optax_predict.core import packing
from optax_predict.engine import initial
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import PredictState

# More arrays than these, with no more numbers in all, are one vector. Each array of
# its own costs a quarter of a second of compiling; a copy of a million numbers, less
# than a millisecond.
_FEW = 4
_MOST_NUMBERS = 2**20


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
  """One vector, where parameters are many small arrays of one dtype.

  Arrays that are split over devices by their type stay as they are.
  """
  leaves = jax.tree.leaves(params)
  size = sum(jnp.size(x) for x in leaves)
  if len(leaves) <= _FEW or size > _MOST_NUMBERS:
    return params
  if len({jnp.result_type(x) for x in leaves}) > 1 or any(
    map(_is_split, leaves)
  ):
    return params
  return flatten_util.ravel_pytree(params)[0]


def see(tree: Any, state: PredictState) -> tuple[Any, Callable[[Any], Any]]:
  """What the predictor of a state sees of parameters or gradients, and the way back.

  One vector, after ``merge`` or in ``optax.flatten``; no other trace is left in the
  state.
  """
  like = state.anchor.params
  if like is None or checks.is_like(tree, like) or not _is_vector(like):
    return tree, lambda seen: seen
  return flatten_util.ravel_pytree(tree)


def _is_vector(tree):
  return jax.tree_util.all_leaves([tree]) and jnp.ndim(tree) == 1


def _is_split(x):
  sharding = getattr(jax.typeof(x), "sharding", None)
  return any(axis is not None for axis in getattr(sharding, "spec", ()))
