"""Taking a window back that went wrong."""

import jax.numpy as jnp

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _limits
from optax_predict import _opt_state


def is_possible(params, opt_state):
  """Whether one predictor sees the parameters as they are and may go back.

  ``optax.flatten`` shows it others, and leaves no trace in the state.
  """
  states = _opt_state.predict_states(opt_state)
  return (
    len(states) == 1
    and states[0].start_params is not None
    and _opt_state.is_plain_chain(opt_state)
    and _checks.is_like(params, states[0].start_params)
  )


def taken_back(params, opt_state):
  """Goes back to the start of a window that went wrong.

  The true gradient at its end, if it is finite, stays in the history and in the
  optimizer, whose update from it is undone with the window.
  """
  (state,) = _opt_state.predict_states(opt_state)
  is_rejected = state.window_length < 0
  # No cond: this is written where the start of the last window was.
  params = _base.where(is_rejected, state.start_params, params)
  left = jnp.minimum(state.remaining_steps, 0)
  state = state._replace(
    remaining_steps=jnp.where(is_rejected, left, state.remaining_steps),
    planned_steps=jnp.where(is_rejected, 0, state.planned_steps),
    excess=jnp.where(is_rejected, 0, state.excess),
    window_length=_limits.kept_length(state),
  )
  return params, _opt_state.replace_states([state], opt_state)


def with_start(opens, params, held):
  """Keeps where a window begins, if one does."""
  start = _base.where(opens, params, held["start_params"])
  return held | {"start_params": start}


def with_length(opens, params, opt_state):
  """Keeps how far a window has led, if there was one."""
  return _opt_state.map_states(
    lambda s: s._replace(
      window_length=jnp.where(
        opens, _limits.distance(params, s.start_params), s.window_length
      )
    ),
    opt_state,
  )
