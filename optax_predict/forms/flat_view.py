"""The parameters as a predictor sees them."""

from collections.abc import Callable
from typing import Any

import jax
from jax import flatten_util
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.engine.state import PredictState


def see(params: Any, state: PredictState) -> tuple[Any, Callable[[Any], Any]]:
  """What the predictor of a state sees of parameters, and the way back.

  ``optax.flatten`` shows it one vector, and leaves no other trace in the state.
  """
  like = state.anchor.params
  if like is None or checks.is_like(params, like) or not _is_vector(like):
    return params, lambda seen: seen
  return flatten_util.ravel_pytree(params)


def _is_vector(tree):
  leaves = jax.tree.leaves(tree)
  return len(leaves) == 1 and jnp.ndim(leaves[0]) == 1
