"""One window: the predicted steps between two true gradients."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.engine import limits
from optax_predict.engine import predicting
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import PredictState
from optax_predict.engine.state import Window

# Steps that one pass over the parameters takes, where nothing can stop them. With
# more of them arithmetic, not memory, is what takes the time.
STEPS_AT_ONCE = 4

BaseUpdate = Callable[[Any, Any, Any], tuple[Any, Any]]


def open_window(parts: Parts, state: PredictState, params: Any) -> PredictState:
  """Looks whether the first step may be taken; ends the window if not."""
  if not parts.needs_look_ahead:
    return state
  return state._replace(window=_look_ahead(parts, state, params, state.window))


def mark_start(
  opens: jax.Array, params: Any, state: PredictState
) -> PredictState:
  """Keeps where a window begins, if one does."""
  if state.retreat is None:
    return state
  start = trees.where(opens, params, state.retreat.start_params)
  return state._replace(retreat=state.retreat._replace(start_params=start))


def mark_end(
  opened: jax.Array, params: Any, state: PredictState
) -> PredictState:
  """Keeps how far a window has led, if there was one."""
  if state.retreat is None:
    return state
  length = limits.measure_distance(params, state.retreat.start_params)
  return state._replace(
    retreat=state.retreat._replace(
      length=jnp.where(opened, length, state.retreat.length)
    )
  )


def take_steps(
  parts: Parts,
  base_update: BaseUpdate,
  params: Any,
  base_state: Any,
  state: PredictState,
) -> tuple[Any, Any, PredictState]:
  """Takes the predicted steps of a window that ``open_window`` has looked at.

  What they only read stays outside of the loops' carry: what is not carried cannot
  be copied.

  Args:
    parts: of the predictor.
    base_update: ``base_update(gradients, base_state, params) -> (updates,
      base_state)``.
    params: where the window begins.
    base_state: the base's there.
    state: the predictor's.

  Returns:
    ``(params, base_state, state)`` at its end.
  """

  def take(count):
    def body(carry):
      params, base_state, window = carry
      # Tied to the carry, or XLA would widen a whole bfloat16 history once before
      # the loop and keep it.
      params, tied = lax.optimization_barrier((params, state))
      for _ in range(count):
        gradients, window = predicting.predict_prepared(
          parts, tied._replace(window=window), params
        )
        updates, base_state = base_update(gradients, base_state, params)
        (window,) = end_if_too_long(updates, [window])
        params = optax.apply_updates(params, updates)
      return params, base_state, window

    return body

  def take_and_look(carry):
    params, base_state, window = take(1)(carry)
    return params, base_state, _look_ahead(parts, state, params, window)

  carry = params, base_state, state.window
  if parts.needs_look_ahead:
    carry = lax.while_loop(_has_steps(1), take_and_look, carry)
  else:
    carry = lax.while_loop(
      _has_steps(STEPS_AT_ONCE), take(STEPS_AT_ONCE), carry
    )
    carry = lax.while_loop(_has_steps(1), take(1), carry)
  params, base_state, window = carry
  taken = window.elapsed_steps - state.window.elapsed_steps
  return (
    params,
    base_state,
    end_window(
      state._replace(step_count=_add(state.step_count, taken), window=window)
    ),
  )


def end_window(state: PredictState) -> PredictState:
  """The state with a true gradient due."""
  return state._replace(
    window=state.window._replace(
      remaining_steps=jnp.zeros_like(state.window.remaining_steps)
    )
  )


def end_if_too_long(updates: Any, windows: list[Window]) -> list[Window]:
  """Ends windows when the update was longer than a horizon allows."""
  longest = [w.longest_update for w in windows]
  if None in longest:
    return windows
  # Predictors that share an optimizer each saw a part of the update.
  is_too_long = reductions.norm(updates) > jnp.linalg.norm(jnp.stack(longest))
  return [
    w._replace(
      remaining_steps=jnp.where(is_too_long, 0, w.remaining_steps),
      was_cut=jnp.where(is_too_long, 1, w.was_cut),
    )
    for w in windows
  ]


def is_open(state: PredictState) -> jax.Array:
  """Whether a predicted step follows."""
  return state.window.remaining_steps > 0


def _has_steps(count):
  return lambda carry: carry[2].remaining_steps >= count


def _look_ahead(parts, state, params, window):
  """Ends the window before a poor step."""

  def look():
    place, tied = lax.optimization_barrier((params, state))
    return predicting.look_ahead(parts, tied._replace(window=window), place)

  return lax.cond(window.remaining_steps <= 0, lambda: window, look)


def _add(count, more):
  """To the largest integer at most."""
  return jnp.minimum(count, jnp.iinfo(count.dtype).max - more) + more
