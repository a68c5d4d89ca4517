"""Taking a window back that went wrong."""

from collections.abc import Callable
from typing import Any

import jax
from jax import flatten_util
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import trees
from optax_predict.engine import limits
from optax_predict.forms import predictor_states


def is_possible(params: Any, opt_state: Any) -> bool:
  """Whether one predictor sees the parameters, and may go back."""
  states = predictor_states.predict_states(opt_state)
  if len(states) != 1 or states[0].retreat is None:
    return False
  start = states[0].retreat.start_params
  return predictor_states.is_plain_chain(opt_state) and checks.is_like(
    see(params, start)[0], start
  )


def take_back(params: Any, opt_state: Any) -> tuple[Any, Any]:
  """Goes back to the start of a window that went wrong.

  The true gradient at its end, if it is finite, stays in the history and in the
  optimizer, whose update from it is undone with the window.
  """
  (state,) = predictor_states.predict_states(opt_state)
  start = state.retreat.start_params
  seen, back = see(params, start)
  # No cond: this is written where the start of the last window was.
  params = back(trees.where(state.retreat.is_due > 0, start, seen))
  state = limits.end_retreat(state)
  return params, predictor_states.replace_states([state], opt_state)


def see(params: Any, like: Any) -> tuple[Any, Callable[[Any], Any]]:
  """The parameters as a predictor sees them, and the way back.

  ``optax.flatten`` shows it one vector, and leaves no other trace in the state.
  """
  if checks.is_like(params, like) or not _is_vector(like):
    return params, lambda seen: seen
  return flatten_util.ravel_pytree(params)


def _is_vector(tree):
  leaves = jax.tree.leaves(tree)
  return len(leaves) == 1 and jnp.ndim(leaves[0]) == 1
