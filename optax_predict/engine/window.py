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
from optax_predict.engine import spanned
from optax_predict.engine import steps
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import PredictState

# Steps that one pass over the parameters takes, where nothing can stop them. With
# more of them arithmetic, not memory, is what takes the time.
STEPS_AT_ONCE = 4
BaseUpdate = Callable[[Any, Any, Any], tuple[Any, Any]]


def run_window(
  parts: Parts,
  base_update: BaseUpdate,
  params: Any,
  base_state: Any,
  state: PredictState,
) -> tuple[Any, Any, PredictState, jax.Array]:
  """Takes the predicted steps that follow on a true gradient.

  Args:
    parts: of the predictor.
    base_update: ``base_update(gradients, base_state, params) -> (updates,
      base_state)``.
    params: where the window begins.
    base_state: the base's there.
    state: the predictor's, with the true gradient recorded.

  Returns:
    ``(params, base_state, state, opened)`` at its end; ``opened`` is ``bool[]``,
    whether a step was taken.
  """
  take_steps = _take_several
  if parts.needs_look_ahead:
    take_steps = (
      spanned.find_steps(parts, base_update, params, base_state, state)
      or _take_looking
    )
  begin = params
  params, base_state, window, opened = take_steps(
    parts, base_update, params, base_state, state
  )
  retreat = state.retreat
  if retreat is not None:
    start = trees.where(opened, begin, retreat.start_params)
    length = limits.measure_distance(params, start)
    retreat = retreat._replace(
      start_params=start, length=jnp.where(opened, length, retreat.length)
    )
  taken = window.elapsed_steps - state.window.elapsed_steps
  state = state._replace(
    step_count=_add(state.step_count, taken), window=window, retreat=retreat
  )
  return params, base_state, end_window(state), opened


# What steps only read stays outside of the loops' carry: what is not carried cannot
# be copied.


def _take_looking(parts, base_update, params, base_state, state):
  """Each forecast is looked at before it is used."""

  def look(params, window):
    place, tied = _tie(params, state)
    window, forecast = predicting.look_ahead(
      parts, tied._replace(window=window), place
    )
    gradients, _, curvature = forecast
    size = reductions.norm(gradients)
    return window, gradients, steps.measure_freshness(size, curvature, window)

  def step(gradients, params, base_state, window):
    return _take_step(base_update, gradients, params, base_state, window)

  _, like, _ = jax.eval_shape(look, params, state.window)
  # Of the parameters, for the sharding that a shape may not tell.
  blank = jax.tree.map(
    lambda p, x: jnp.zeros_like(p, dtype=x.dtype), params, like
  )
  return steps.take_steps(look, step, blank, params, base_state, state.window)


def _take_several(parts, base_update, params, base_state, state):
  """Nothing can stop them: several in one pass, each on a forecast of its own."""

  def take(count):
    def body(carry):
      params, base_state, window = carry
      params, tied = _tie(params, state)
      for _ in range(count):
        forecast = predicting.forecast_unseen(
          parts, tied._replace(window=window), params
        )
        params, base_state, window, _ = _take_step(
          base_update, forecast, params, base_state, window
        )
      return params, base_state, window

    return body

  def has_steps(count):
    return lambda carry: carry[2].remaining_steps >= count

  carry = params, base_state, state.window
  carry = lax.while_loop(has_steps(STEPS_AT_ONCE), take(STEPS_AT_ONCE), carry)
  carry = lax.while_loop(has_steps(1), take(1), carry)
  return *carry, state.window.remaining_steps > 0


def _take_step(base_update, gradients, params, base_state, window):
  """One predicted step, and how long it was."""
  updates, base_state = base_update(gradients, base_state, params)
  length = reductions.norm(updates)
  params = optax.apply_updates(params, updates)
  return params, base_state, steps.count_step(length, window), length


def _tie(params, state):
  """Ties what a loop only reads to its carry.

  XLA would widen a whole bfloat16 history once before the loop and keep it.
  """
  return lax.optimization_barrier((params, state))


def end_window(state: PredictState) -> PredictState:
  """The state with a true gradient due."""
  return state._replace(
    window=state.window._replace(
      remaining_steps=jnp.zeros_like(state.window.remaining_steps)
    )
  )


def _add(count, more):
  """To the largest integer at most."""
  return jnp.minimum(count, jnp.iinfo(count.dtype).max - more) + more
