"""What keeps a window, and a gradient after it, from leading too far."""

import math
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict.core import interfaces
from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.engine.state import PredictState
from optax_predict.engine.state import Retreat
from optax_predict.engine.state import Window

# A sum over the same numbers may be rounded in another way in another program.
_SAME = 1e-3
# An update is not too long while it is shorter than this share of what the window
# may lead. From 0.1 to 0.5 made no difference.
_SHORT = 0.25


def max_growth(horizon: interfaces.Horizon) -> float:
  """That of the horizon, infinite where it sets no limit."""
  return math.inf if horizon.max_growth is None else horizon.max_growth


def make_finite(x: jax.Array) -> jax.Array:
  """The nearest finite number; a NaN is as large as can be."""
  largest = jnp.finfo(x.dtype).max
  return jnp.nan_to_num(x, nan=largest, posinf=largest, neginf=-largest)


def measure_distance(params: Any, start: Any) -> jax.Array:
  """Between two places, in float32 or wider, finite."""
  return make_finite(reductions.norm(trees.difference(params, start)))


def measure_excess(
  horizon: interfaces.Horizon,
  norm: jax.Array,
  error: interfaces.ForecastError,
  state: PredictState,
) -> jax.Array:
  """By what share a gradient after a window is too long; 0 anywhere else."""
  if horizon.max_growth is None:
    return jnp.zeros_like(norm)
  longest = horizon.max_growth * state.anchor.gradient_norm
  is_after = (error.window_steps > 0) | (state.anchor.excess > 0)
  ratio = norm / jnp.where(longest > 0, longest, 1)
  is_longer = is_after & (longest > 0) & (ratio > 1)
  return jnp.where(is_longer, make_finite(ratio) - 1, 0)


def shorten_gradient(gradients: Any, state: PredictState) -> Any:
  """A true gradient without its excess.

  Zeros for one that is not finite where the window that led to it is taken back:
  a base would keep it in its own state, which is not.
  """
  scale = 1 / (1 + state.anchor.excess)
  if state.retreat is not None:
    # Of the gradients that a window went wrong at, these are not recorded.
    is_lost = (state.retreat.is_due > 0) & (state.window.elapsed_steps > 1)
    scale = jnp.where(is_lost, 0, scale)
  # One number: XLA would find it again for every element.
  return trees.scaled(lax.optimization_barrier(scale), gradients)


def set_reach(
  horizon: interfaces.Horizon,
  distance: Any,
  horizon_state: Any,
  state: PredictState,
) -> jax.Array | None:
  """How far the next window may lead; 0 where nothing is known.

  Parameters at rest say nothing, and there is no move to the first gradient.
  """
  if horizon.max_growth is None:
    return None
  times: Any = horizon.max_growth
  if horizon.reach is not None:
    times = horizon.reach(horizon_state)
  longest = make_finite(times * distance)
  is_known = (distance > 0) & (state.history_size > 0)
  return jnp.where(is_known, longest, state.window.reach)


def is_too_far(
  horizon: interfaces.Horizon,
  distance: Any,
  expected_error: jax.Array,
  state: PredictState,
) -> jax.Array:
  """Whether a forecast here is beyond what the horizon trusts."""
  found = jnp.zeros([], bool)
  if horizon.max_growth is not None:
    reach = state.window.reach
    found |= (reach > 0) & (distance > reach)
  if horizon.max_expected_error is not None:
    largest = horizon.max_expected_error * state.anchor.gradient_norm
    if horizon.trust is not None:
      largest *= horizon.trust(state.horizon_state)
    found |= expected_error > largest
  return found


def set_updates(
  horizon: interfaces.Horizon, distance: jax.Array, window: Window
) -> Window:
  """The first predicted step sees the true gradient's whole update.

  With a small learning rate updates grow, as momentum does, and are still short.
  """
  longest = max_growth(horizon) * distance
  if horizon.max_growth is not None:
    longest = jnp.maximum(longest, _SHORT * window.reach)
  is_first = window.elapsed_steps <= 1
  return window._replace(
    first_update=jnp.where(is_first, distance, window.first_update),
    longest_update=jnp.where(
      is_first, make_finite(longest), window.longest_update
    ),
  )


def judge_window(
  is_wrong: jax.Array, params: Any, retreat: Retreat | None
) -> Retreat | None:
  """Whether the window that led here is to be taken back.

  Only where parameters are where the window has led them: what a caller has put
  in their place is not ours to take back.
  """
  if retreat is None:
    return None
  length = retreat.length

  def is_here():
    moved = measure_distance(params, retreat.start_params)
    return jnp.abs(moved - length) <= _SAME * length

  is_due = lax.cond(
    is_wrong & (length > 0), is_here, lambda: jnp.zeros([], bool)
  )
  return retreat._replace(
    length=jnp.where(is_due, length, 0), is_due=is_due.astype(jnp.int32)
  )


def end_retreat(state: PredictState) -> PredictState:
  """The state after its window was taken back, if that was due; no other opens."""
  retreat, window = state.retreat, state.window
  assert retreat is not None
  was_due = retreat.is_due > 0
  return state._replace(
    anchor=state.anchor._replace(
      excess=jnp.where(was_due, 0, state.anchor.excess)
    ),
    window=window._replace(
      planned_steps=jnp.where(was_due, 0, window.planned_steps),
      remaining_steps=jnp.where(was_due, 0, window.remaining_steps),
    ),
    retreat=retreat._replace(
      length=jnp.where(was_due, 0, retreat.length),
      is_due=jnp.zeros_like(retreat.is_due),
    ),
  )
