"""Taking a window back that went wrong."""

import jax
from jax import flatten_util
import jax.numpy as jnp

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _limits
from optax_predict import _opt_state


def is_possible(params, opt_state):
  """Whether one predictor sees the parameters, and may go back."""
  states = _opt_state.predict_states(opt_state)
  return (
    len(states) == 1
    and states[0].start_params is not None
    and _opt_state.is_plain_chain(opt_state)
    and _checks.is_like(
      _seen(params, states[0].start_params)[0], states[0].start_params
    )
  )


def taken_back(params, opt_state):
  """Goes back to the start of a window that went wrong.

  The true gradient at its end, if it is finite, stays in the history and in the
  optimizer, whose update from it is undone with the window.
  """
  (state,) = _opt_state.predict_states(opt_state)
  is_rejected = state.window_length < 0
  seen, back = _seen(params, state.start_params)
  # No cond: this is written where the start of the last window was.
  params = back(_base.where(is_rejected, state.start_params, seen))
  state = _limits.after_retreat(is_rejected, state)
  return params, _opt_state.replace_states([state], opt_state)


def with_start(opens, params, opt_state):
  """Keeps where a window begins, if one does."""

  def kept(state):
    old = state.start_params
    return state._replace(
      start_params=_base.where(opens, _seen(params, old)[0], old)
    )

  return _opt_state.map_states(kept, opt_state)


def with_length(opens, params, opt_state):
  """Keeps how far a window has led, if there was one."""

  def measured(state):
    seen, _ = _seen(params, state.start_params)
    length = _limits.distance(seen, state.start_params)
    return state._replace(
      window_length=jnp.where(opens, length, state.window_length)
    )

  return _opt_state.map_states(measured, opt_state)


def _seen(params, like):
  """The parameters as a predictor sees them, and the way back.

  ``optax.flatten`` shows it one vector, and leaves no other trace in the state.
  """
  if _checks.is_like(params, like) or not _is_vector(like):
    return params, lambda seen: seen
  return flatten_util.ravel_pytree(params)


def _is_vector(tree):
  leaves = jax.tree.leaves(tree)
  return len(leaves) == 1 and jnp.ndim(leaves[0]) == 1
