"""One window: the predicted steps between two true gradients."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict.core import interfaces
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
# A window is over where a step is shorter than this share of the way that it has
# led: nothing is gained any more.
_LEAST_STEP = 1e-4

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
  take_steps = _take_looking if parts.needs_look_ahead else _take_several
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
  """Each forecast is looked at before it is used, and used while it is fresh."""

  def look(params, window):
    place, tied = _tie(params, state)
    window, forecast = predicting.look_ahead(
      parts, tied._replace(window=window), place
    )
    return window, forecast.gradients, _measure_freshness(forecast)

  def refresh(params, window, gradients, fresh):
    return lax.cond(
      (window.remaining_steps > 0) & (fresh <= 0),
      lambda: look(params, window),
      lambda: (window, gradients, fresh),
    )

  def body(carry):
    params, base_state, window, gradients, fresh = carry
    params, base_state, window, length = _take_step(
      base_update, gradients, params, base_state, window
    )
    fresh = fresh - length.astype(fresh.dtype)
    return params, base_state, *refresh(params, window, gradients, fresh)

  _, like, size = jax.eval_shape(look, params, state.window)
  # Of the parameters, for the sharding that a shape may not tell.
  gradients = jax.tree.map(
    lambda p, x: jnp.zeros_like(p, dtype=x.dtype), params, like
  )
  window, gradients, fresh = refresh(
    params, state.window, gradients, jnp.zeros(size.shape, size.dtype)
  )
  opened = window.remaining_steps > 0
  params, base_state, window, *_ = lax.while_loop(
    lambda carry: carry[2].remaining_steps > 0,
    body,
    (params, base_state, window, gradients, fresh),
  )
  return params, base_state, window, opened


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
  window = window._replace(
    elapsed_steps=optax.safe_increment(window.elapsed_steps),
    remaining_steps=jnp.maximum(window.remaining_steps - 1, 0),
  )
  params = optax.apply_updates(params, updates)
  return params, base_state, end_if_useless(length, window), length


def _measure_freshness(forecast: interfaces.Forecast) -> jax.Array:
  """How far steps may lead until a forecast is stale; 0 for one step."""
  size = reductions.norm(forecast.gradients)
  if forecast.curvature is None:
    return jnp.zeros_like(size)
  curvature = jnp.where(forecast.curvature > 0, forecast.curvature, jnp.inf)
  return _STALE * size / curvature.astype(size.dtype)


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


def end_if_useless(length: jax.Array, window: Window) -> Window:
  """Ends a window after an update that a horizon does not allow, or that is nothing."""
  if window.longest_update is None:
    return window
  is_too_long = length > window.longest_update
  is_over = length <= _LEAST_STEP * window.distance
  return window._replace(
    remaining_steps=jnp.where(is_too_long | is_over, 0, window.remaining_steps),
    was_cut=jnp.where(is_too_long, 1, window.was_cut),
  )


def _add(count, more):
  """To the largest integer at most."""
  return jnp.minimum(count, jnp.iinfo(count.dtype).max - more) + more
