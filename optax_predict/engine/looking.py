"""A cheap look at whether true gradients are noise, before a rest."""

from typing import Any

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import reductions
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import Look
from optax_predict.engine.state import PredictState

# True gradients whose directions are compared with that of the last recorded one. Noise
# of its own in each makes all of them about equally far from it. One that turns
# smoothly is farther and farther away, and one that swings comes back. It is
# directions because lengths of minibatch gradients differ by orders of magnitude.
_COUNT = 4
# They are noise where the nearest is at least so far, and at least this share as far as
# the farthest. Directions that hardly differ are nobody's noise.
_FAR = 0.3
_EVEN = 0.4


def can_look(parts: Parts) -> bool:
  """Whether there are rests, and something to compare gradients with before them."""
  return parts.horizon.rest is not None and parts.forecaster.recall is not None


def begin(
  parts: Parts, horizon_state: Any, like: Look
) -> tuple[jax.Array, Look]:
  """After a recorded gradient: whether the next ones are looked at.

  Args:
    parts: the parts.
    horizon_state: the horizon's, updated.
    like: a look.

  Returns:
    ``(rest_steps, look)``: true gradients to let through at once, where the forecaster
    has nothing to compare them with, and the look.
  """
  none = jnp.zeros([], jnp.int32)
  rest = none
  if parts.horizon.rest is not None:
    rest = parts.horizon.rest(horizon_state)
  is_asked = can_look(parts) & (rest > 0)
  return none if can_look(parts) else rest, Look(
    remaining=jnp.where(is_asked, _COUNT, 0).astype(jnp.int32),
    rest=rest,
    nearest=jnp.zeros_like(like.nearest),
    farthest=jnp.zeros_like(like.farthest),
  )


def measure_turn(
  parts: Parts, gradients: Any, state: PredictState
) -> jax.Array:
  """Distance between the directions of a true gradient and the last recorded one.

  Args:
    parts: the parts, with which one can look.
    gradients: the true gradient.
    state: with the last recorded one in its history.

  Returns:
    The distance of both when scaled to unit length, a real scalar from 0 to 2; 0 where
    one has no length, infinite where the gradient is not finite.
  """
  recall: Any = parts.forecaster.recall
  dtype = state.anchor.gradient_norm.dtype
  last = recall(state.gradient_history)
  checks.check_like("gradients", gradients, last)
  gg, ll, gl = reductions.inner_products(
    [(gradients, gradients), (last, last), (gradients, last)]
  ).astype(dtype)
  size = jnp.sqrt(gg) * jnp.sqrt(ll)
  cosine = jnp.where(size > 0, gl / jnp.where(size > 0, size, 1), 1)
  turn = jnp.sqrt(jnp.clip(2 - 2 * cosine, 0, 4))
  return jnp.where(jnp.isfinite(gg), turn, jnp.inf)


def go_on(
  turn: jax.Array, rest_steps: jax.Array, look: Look
) -> tuple[jax.Array, Look]:
  """After a gradient that was not recorded.

  Args:
    turn: of :func:`measure_turn`, where it was looked at.
    rest_steps: true gradients that were still to be let through.
    look: so far.

  Returns:
    ``(rest_steps, look)`` after it.
  """
  # One that is not finite says nothing, and another is looked at in its place.
  is_looked_at = (look.remaining > 0) & jnp.isfinite(turn)
  is_first = look.remaining == _COUNT
  nearest = jnp.where(is_first, turn, jnp.minimum(look.nearest, turn))
  farthest = jnp.maximum(look.farthest, turn)
  is_last = is_looked_at & (look.remaining == 1)
  is_noise = (nearest > _FAR) & (nearest > _EVEN * farthest)
  rest = jnp.where(is_last & ~is_noise, 0, look.rest)
  return jnp.where(is_last, rest, jnp.maximum(rest_steps - 1, 0)), Look(
    remaining=look.remaining - is_looked_at.astype(jnp.int32),
    rest=rest,
    nearest=jnp.where(is_looked_at, nearest, look.nearest),
    farthest=jnp.where(is_looked_at, farthest, look.farthest),
  )
