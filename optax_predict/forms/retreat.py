"""Taking a window back that went wrong."""

import jax
from jax import flatten_util
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import trees
from optax_predict.engine import limits
from optax_predict.forms import predictor_states


def is_possible(params, opt_state):
  """Whether one predictor sees the parameters, and may go back."""
  states = predictor_states.predict_states(opt_state)
  return (
    len(states) == 1
    and states[0].start_params is not None
    and predictor_states.is_plain_chain(opt_state)
    and checks.is_like(
      _seen(params, states[0].start_params)[0], states[0].start_params
    )
  )


def taken_back(params, opt_state):
  """Goes back to the start of a window that went wrong.

  The true gradient at its end, if it is finite, stays in the history and in the
  optimizer, whose update from it is undone with the window.
  """
  (state,) = predictor_states.predict_states(opt_state)
  is_rejected = state.window_length < 0
  seen, back = _seen(params, state.start_params)
  # No cond: this is written where the start of the last window was.
  params = back(trees.where(is_rejected, state.start_params, seen))
  state = limits.after_retreat(is_rejected, state)
  return params, predictor_states.replace_states([state], opt_state)


def with_start(opens, params, opt_state):
  """Keeps where a window begins, if one does."""

  def kept(state):
    old = state.start_params
    return state._replace(
      start_params=trees.where(opens, _seen(params, old)[0], old)
    )

  return predictor_states.map_states(kept, opt_state)


def with_length(opens, params, opt_state):
  """Keeps how far a window has led, if there was one."""

  def measured(state):
    seen, _ = _seen(params, state.start_params)
    length = limits.distance(seen, state.start_params)
    return state._replace(
      window_length=jnp.where(opens, length, state.window_length)
    )

  return predictor_states.map_states(measured, opt_state)


def _seen(params, like):
  """The parameters as a predictor sees them, and the way back.

  ``optax.flatten`` shows it one vector, and leaves no other trace in the state.
  """
  if checks.is_like(params, like) or not _is_vector(like):
    return params, lambda seen: seen
  return flatten_util.ravel_pytree(params)


def _is_vector(tree):
  leaves = jax.tree.leaves(tree)
  return len(leaves) == 1 and jnp.ndim(leaves[0]) == 1
