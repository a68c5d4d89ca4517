"""When a horizon asks for a rest: forecasts have been worthless for a while."""

from typing import Any

import jax
import jax.numpy as jnp

from optax_predict.core import interfaces

# A relative error above which a forecast was worth nothing. Under noise one in
# seven is not: it takes back three. So many of them make it ask for a rest, which is
# had if gradients are noise; twice as many each time that they were not, and one
# where it has rested since the last window.
_WORTHLESS = 0.8
_PATIENCE = 20
_MOST_DOUBTS = 4
# True gradients that a rest lets through, at first and at most.
_SHORTEST_REST = 8
_LONGEST_REST = 512


def ask_for_rest(
  error: interfaces.ForecastError, steps: jax.Array, state: Any
) -> Any:
  """Updates what an ``AdaptiveState`` holds of rests.

  Args:
    error: of the forecast for a true gradient.
    steps: predicted steps that the next window is to have, ``int32[]``.
    state: before that gradient.

  Returns:
    The state with ``worthless``, ``rest``, ``is_tired`` and ``doubts`` after it.
  """
  was_asked, was_noise = state.is_tired > 0, error.rested > 0
  doubts = state.doubts + (was_asked & ~was_noise).astype(jnp.int32)
  doubts = jnp.where(was_noise, 0, jnp.minimum(doubts, _MOST_DOUBTS))
  last_rest = jnp.where((steps > 0) | (doubts > 0), 0, state.rest)
  is_known = error.history_size >= 1
  is_worthless = is_known & (error.relative_error > _WORTHLESS)
  count = state.worthless + jnp.where(is_worthless, 1, -3)
  worthless = jnp.where(steps > 0, 0, jnp.maximum(count, 0))
  patience = jnp.where(last_rest > 0, 1, _PATIENCE * 2**doubts)
  is_tired = worthless >= patience
  longer = jnp.clip(2 * last_rest, _SHORTEST_REST, _LONGEST_REST)
  return state._replace(
    worthless=jnp.where(is_tired, 0, worthless),
    rest=jnp.where(is_tired, longer, last_rest),
    is_tired=is_tired.astype(jnp.int32),
    doubts=doubts.astype(jnp.int32),
  )
