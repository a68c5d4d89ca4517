"""The steps of a window, on whatever stands for parameters and gradients there."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict.engine.state import Window

# By how much of its length a forecast may have changed since it was made.
_STALE = 0.05
# A window is over where a step is shorter than this share of the way that it has
# led: nothing is gained any more.
_LEAST_STEP = 1e-4


def take_steps(
  look: Callable[..., Any],
  step: Callable[..., Any],
  gradients: Any,
  place: Any,
  base_state: Any,
  window: Window,
) -> tuple[Any, Any, Window, jax.Array]:
  """Takes steps until the window is over; a forecast is used while it is fresh.

  Args:
    look: ``look(place, window) -> (window, gradients, freshness)``: the forecast,
      how far steps may lead until it is stale, and the window, ended if the forecast
      is no good.
    step: ``step(gradients, place, base_state, window) -> (place, base_state, window,
      length)``: one step, and how long it was.
    gradients: anything like a forecast.
    place: where the window begins.
    base_state: the base's there.
    window: with steps planned.

  Returns:
    ``(place, base_state, window, opened)`` at its end; ``opened`` is ``bool[]``,
    whether a step was taken.
  """

  def refresh(place, window, gradients, fresh):
    return lax.cond(
      (window.remaining_steps > 0) & (fresh <= 0),
      lambda: look(place, window),
      lambda: (window, gradients, fresh),
    )

  def body(carry):
    place, base_state, window, gradients, fresh = carry
    place, base_state, window, length = step(
      gradients, place, base_state, window
    )
    fresh = fresh - length.astype(fresh.dtype)
    return place, base_state, *refresh(place, window, gradients, fresh)

  *_, fresh = jax.eval_shape(look, place, window)
  window, gradients, fresh = refresh(
    place, window, gradients, jnp.zeros(fresh.shape, fresh.dtype)
  )
  opened = window.remaining_steps > 0
  place, base_state, window, *_ = lax.while_loop(
    lambda carry: carry[2].remaining_steps > 0,
    body,
    (place, base_state, window, gradients, fresh),
  )
  return place, base_state, window, opened


def measure_freshness(
  size: jax.Array, curvature: jax.Array | None, window: Window
) -> jax.Array:
  """How far steps may lead until a forecast is stale; 0 for one step.

  Not farther than the window may lead, which is only seen where one looks.

  Args:
    size: norm of the forecast.
    curvature: that of a :class:`Forecast`.
    window: as of the forecast.
  """
  if curvature is None:
    return jnp.zeros_like(size)
  curvature = jnp.where(curvature > 0, curvature, jnp.inf)
  fresh = _STALE * size / curvature.astype(size.dtype)
  if window.reach is None:
    return fresh
  left = (window.reach - window.distance).astype(fresh.dtype)
  return jnp.where(window.reach > 0, jnp.minimum(fresh, left), fresh)


def count_step(length: jax.Array, window: Window) -> Window:
  """The window after a step of a length."""
  window = window._replace(
    elapsed_steps=optax.safe_increment(window.elapsed_steps),
    remaining_steps=jnp.maximum(window.remaining_steps - 1, 0),
  )
  return end_if_useless(length, window)


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
