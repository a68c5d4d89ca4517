"""One window: the predicted steps between two true gradients."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict import _parts
from optax_predict import _predicting
from optax_predict import _sums
from optax_predict._state import PredictState

# Steps that one pass over the parameters takes, where nothing can stop them. With
# more of them arithmetic, not memory, is what takes the time.
STEPS_AT_ONCE = 4

BaseUpdate = Callable[[Any, Any, Any], tuple[Any, Any]]


def open_window(
  parts: _parts.Parts, state: PredictState, params: Any
) -> PredictState:
  """Looks whether the first step may be taken; ends the window if not."""
  if not parts.needs_look_ahead:
    return state
  held = read_only(state)
  live = _look_ahead(parts, detach(state), held, params)
  return attach(live, held)


def take_steps(
  parts: _parts.Parts,
  base_update: BaseUpdate,
  params: Any,
  base_state: Any,
  state: PredictState,
) -> tuple[Any, Any, PredictState]:
  """Takes the predicted steps of a window that ``open_window`` has looked at.

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
  held = read_only(state)

  def step(params, base_state, live, held):
    gradients, live = _predicting.predict_prepared(
      parts, attach(live, held), params
    )
    updates, base_state = base_update(gradients, base_state, params)
    live = end_if_too_long(updates, [live])[0]
    return optax.apply_updates(params, updates), base_state, detach(live)

  def several(count):
    def body(carry):
      params, base_state, live = carry
      # Tied to the carry, or XLA would widen a whole bfloat16 history once before
      # the loop and keep it.
      params, tied = lax.optimization_barrier((params, held))
      for _ in range(count):
        params, base_state, live = step(params, base_state, live, tied)
      return params, base_state, live

    return body

  def one(carry):
    params, base_state, live = several(1)(carry)
    return params, base_state, _look_ahead(parts, live, held, params)

  carry = params, base_state, detach(state)
  if parts.needs_look_ahead:
    carry = lax.while_loop(_has_steps(1), one, carry)
  else:
    carry = lax.while_loop(
      _has_steps(STEPS_AT_ONCE), several(STEPS_AT_ONCE), carry
    )
    carry = lax.while_loop(_has_steps(1), several(1), carry)
  params, base_state, live = carry
  return params, base_state, attach(live, held)


def _has_steps(count):
  return lambda carry: carry[2].remaining_steps >= count


def _look_ahead(parts, live, held, params):
  """Ends the window before a poor step."""

  def look():
    place, tied = lax.optimization_barrier((params, held))
    return detach(_predicting.look_ahead(parts, attach(live, tied), place))

  return lax.cond(live.remaining_steps <= 0, lambda: live, look)


def end_if_too_long(
  updates: Any, states: list[PredictState]
) -> list[PredictState]:
  """Ends the window when the update was longer than a horizon allows."""
  limits = [s.longest_update for s in states]
  if None in limits:
    return states
  # Predictors that share an optimizer each saw a part of the update.
  is_too_long = _sums.norm(updates) > jnp.linalg.norm(jnp.stack(limits))
  return [
    s._replace(
      remaining_steps=jnp.where(is_too_long, 0, s.remaining_steps),
      window_stopped=jnp.where(is_too_long, 1, s.window_stopped),
    )
    for s in states
  ]


# What a predicted step only reads stays outside the loop's carry: what is not
# carried cannot be copied.
def read_only(state: PredictState) -> dict[str, Any]:
  """The fields that no predicted step changes."""
  return dict(
    gradient_history=state.gradient_history,
    anchor_params=state.anchor_params,
    accumulated_correction=state.accumulated_correction,
    start_params=state.start_params,
  )


def detach(state: PredictState) -> PredictState:
  """The state without them."""
  return state._replace(**dict.fromkeys(read_only(state)))


def attach(live: PredictState, held: dict[str, Any]) -> PredictState:
  """The state with them again."""
  return live._replace(**held)


def is_open(state: PredictState) -> jax.Array:
  """Whether a predicted step follows."""
  return state.remaining_steps > 0
