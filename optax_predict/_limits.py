"""What keeps a window, and a gradient after it, from leading too far.

``state`` is a ``PredictState`` throughout.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from optax_predict import _base
from optax_predict import _sums

# A sum over the same numbers may be rounded in another way in another program.
_SAME = 1e-3
# An update is not too long while it is shorter than this share of what the window
# may lead. From 0.1 to 0.5 made no difference.
_SHORT = 0.25


def growth(horizon: _base.Horizon) -> float:
  """``max_growth``, infinite where the horizon sets no limit."""
  return math.inf if horizon.max_growth is None else horizon.max_growth


def finite(x: jax.Array) -> jax.Array:
  """The nearest finite number; a NaN is as large as can be."""
  largest = jnp.finfo(x.dtype).max
  return jnp.nan_to_num(x, nan=largest, posinf=largest, neginf=-largest)


def excess(
  horizon: _base.Horizon,
  norm: jax.Array,
  error: _base.ForecastError,
  state: Any,
) -> jax.Array:
  """By what share a gradient after a window is too long; 0 anywhere else."""
  if horizon.max_growth is None:
    return jnp.zeros_like(norm)
  longest = horizon.max_growth * state.gradient_norm
  is_after = (error.window_steps > 0) | (state.excess > 0)
  ratio = norm / jnp.where(longest > 0, longest, 1)
  is_longer = is_after & (longest > 0) & (ratio > 1)
  return jnp.where(is_longer, finite(ratio) - 1, 0)


def shortened(gradients: Any, state: Any) -> Any:
  """A true gradient without its excess.

  Zeros for one that is not finite where the window that led to it is taken back:
  a base would keep it in its own state, which is not.
  """
  scale = 1 / (1 + state.excess)
  if state.window_length is not None:
    # Of the gradients that a window went wrong at, these are not recorded.
    is_lost = (state.window_length < 0) & (state.elapsed_steps > 1)
    scale = jnp.where(is_lost, 0, scale)
  return _base.scaled(scale, gradients)


def reach(
  horizon: _base.Horizon, distance: Any, horizon_state: Any, state: Any
) -> jax.Array | None:
  """How far the next window may lead; 0 where nothing is known.

  Parameters at rest say nothing, and there is no move to the first gradient.
  """
  if horizon.max_growth is None:
    return None
  times: Any = horizon.max_growth
  if horizon.reach is not None:
    times = horizon.reach(horizon_state)
  longest = finite(times * distance)
  is_known = (distance > 0) & (state.history_size > 0)
  return jnp.where(is_known, longest, state.reach)


def judged_length(
  is_wrong: jax.Array, params: Any, state: Any
) -> jax.Array | None:
  """Of the window that led here: negative where it went wrong, or else 0.

  Only where parameters are where :func:`fast_forward` has led them: what a caller
  has put in their place is not ours to take back.
  """
  length = state.window_length
  if length is None:
    return None
  moved = distance(params, state.start_params)
  is_here = (length > 0) & (jnp.abs(moved - length) <= _SAME * length)
  return jnp.where(is_here & is_wrong, -length, 0)


def kept_length(state: Any) -> jax.Array | None:
  """Of the last window; 0 where it went wrong, and is not taken back any more."""
  length = state.window_length
  return None if length is None else jnp.maximum(length, 0)


def distance(params: Any, start: Any) -> jax.Array:
  """Between two places, in float32 or wider, finite."""
  return finite(
    _sums.norm(
      jax.tree.map(lambda x, y: _base.widen(x) - _base.widen(y), params, start)
    )
  )


def is_too_far(
  horizon: _base.Horizon,
  distance: Any,
  expected_error: jax.Array,
  state: Any,
) -> jax.Array:
  """Whether a forecast here is beyond what the horizon trusts."""
  found = jnp.zeros([], bool)
  if horizon.max_growth is not None:
    found |= (state.reach > 0) & (distance > state.reach)
  if horizon.max_expected_error is not None:
    largest = horizon.max_expected_error * state.gradient_norm
    if horizon.trust is not None:
      largest *= horizon.trust(state.horizon_state)
    found |= expected_error > largest
  return found


def longest_update(
  horizon: _base.Horizon, distance: jax.Array, state: Any
) -> jax.Array:
  """The first predicted step sees the true gradient's whole update.

  With a small learning rate updates grow, as momentum does, and are still short.
  """
  longest = growth(horizon) * distance
  if horizon.max_growth is not None:
    longest = jnp.maximum(longest, _SHORT * state.reach)
  return jnp.where(
    state.elapsed_steps <= 1, finite(longest), state.longest_update
  )
