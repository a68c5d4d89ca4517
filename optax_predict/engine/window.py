"""One window: the predicted steps between two true gradients."""

from collections.abc import Callable
import functools
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
# By how much of its length a forecast may have changed since it was made.
_STALE = 0.05

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

  def step(gradients, carry):
    params, base_state, window, way = carry
    updates, base_state = base_update(gradients, base_state, params)
    window = window._replace(
      elapsed_steps=optax.safe_increment(window.elapsed_steps),
      remaining_steps=jnp.maximum(window.remaining_steps - 1, 0),
    )
    length = reductions.norm(updates)
    window = end_if_too_long(length, window)
    return (
      optax.apply_updates(params, updates),
      base_state,
      window,
      way + length,
    )

  def predict(params, window):
    # Tied to the carry, or XLA would widen a whole bfloat16 history once before
    # the loop and keep it.
    place, tied = lax.optimization_barrier((params, state))
    tied = tied._replace(window=window)
    return predicting.predict_prepared(parts, tied, place)

  def take(count):
    """So many steps in one pass, each on a forecast of its own."""

    def body(carry):
      params, base_state, window = carry
      for _ in range(count):
        gradients = predict(params, window).gradients
        params, base_state, window, _ = step(
          gradients, (params, base_state, window, 0.0)
        )
      return params, base_state, window

    return body

  def take_and_look(carry):
    """The steps that one forecast serves, and a look at the next."""
    params, base_state, window = carry
    forecast = predict(params, window)
    if forecast.curvature is None:
      params, base_state, window, _ = step(
        forecast.gradients, (params, base_state, window, 0.0)
      )
    else:
      largest = _STALE * reductions.norm(forecast.gradients)

      def serves(carry):
        *_, window, way = carry
        return (window.remaining_steps > 0) & (
          (way <= 0) | (forecast.curvature * way < largest)
        )

      params, base_state, window, _ = lax.while_loop(
        serves,
        functools.partial(step, forecast.gradients),
        (params, base_state, window, jnp.zeros_like(largest)),
      )
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


def end_if_too_long(length: jax.Array, window: Window) -> Window:
  """Ends a window after an update that was longer than a horizon allows."""
  if window.longest_update is None:
    return window
  is_too_long = length > window.longest_update
  return window._replace(
    remaining_steps=jnp.where(is_too_long, 0, window.remaining_steps),
    was_cut=jnp.where(is_too_long, 1, window.was_cut),
  )


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
