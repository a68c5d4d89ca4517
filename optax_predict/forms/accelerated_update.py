"""All that an accelerated optimizer does with one true gradient."""

from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict.core import checks
from optax_predict.core import packing
from optax_predict.core import trees
from optax_predict.engine import limits
from optax_predict.engine import recording
from optax_predict.engine import window
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import AccelerateState
from optax_predict.forms import few_arrays
from optax_predict.forms import schedules

# Rounding of half precision is coarse beside a way.
_COARSE = 1e-4
# Fields of the predictor's state that a window changes.
_MOVING = ("step_count", "window", "retreat")


def update(
  parts: Parts,
  base: optax.GradientTransformationExtraArgs,
  gradients: Any,
  state: AccelerateState,
  params: Any,
  extra_args: dict[str, Any],
) -> tuple[Any, AccelerateState]:
  """The base's step from a true gradient, and all predicted steps after it."""
  begin_state = state.base_optimizer_state
  predictor, like = few_arrays.open_predictor(parts, state.predictor, params)
  # Here by the names of their leaves.
  checks.check_precision(gradients, predictor.anchor.gradient_norm.dtype)
  seen, _ = few_arrays.see(params, predictor)
  update_base = few_arrays.see_base(
    base, begin_state, gradients, params, seen, extra_args
  )
  seen_gradients, show = few_arrays.see(gradients, predictor)
  seen_gradients, predictor = recording.receive_gradient(
    parts,
    seen_gradients,
    predictor,
    seen,
    value=extra_args.get("value"),
  )
  updates, base_state = update_base(seen_gradients, begin_state, seen)

  # Schedules are held where they were at the true gradient.
  def update_held(forecast, base_state, seen):
    updates, base_state = update_base(
      trees.cast_like(forecast, seen_gradients), base_state, seen
    )
    return updates, schedules.hold_schedules(base_state, begin_state)

  is_back = jnp.zeros([], bool)
  if predictor.retreat is not None:
    is_back = predictor.retreat.is_due > 0
    predictor = limits.end_retreat(predictor)

  recorded = packing.pack(predictor, like)

  def take_window(carry):
    moving, updates, stepped, start_state = carry
    # Taken apart in here: a rest has no use for the pieces.
    inner = packing.unpack(packing.close(recorded), like)
    state = inner._replace(**moving)
    end, base_state = optax.apply_updates(seen, updates), stepped
    if state.retreat is not None:
      end = trees.where(is_back, state.retreat.start_params, end)
      base_state = optax.tree.where(is_back, start_state, base_state)
    base_state = schedules.hold_schedules(base_state, begin_state)
    end, end_state, state, opened = window.run_window(
      parts, update_held, end, base_state, state
    )
    # The base's own updates, with no rounding of ours, where nothing was predicted.
    moved = jax.tree.map(
      lambda x, p, u: jnp.where(is_back | opened, (x - p).astype(u.dtype), u),
      end,
      seen,
      updates,
    )
    if state.retreat is not None:
      # Where no step was taken there is no way back, and nobody reads it.
      start_state = base_state
      state = _measure_way_back(state, seen, moved, opened)
    end_state = schedules.hold_schedules(end_state, stepped)
    return _pick(state), moved, end_state, start_state

  # A gradient that no window follows on costs no pass more than the base's. What a
  # window only reads is no result of the cond: it would be copied.
  moving, updates, base_state, start_state = packing.cond(
    is_back | (predictor.window.remaining_steps > 0),
    take_window,
    lambda carry: carry,
    (_pick(predictor), updates, base_state, state.start_base_state),
    (_pick(like), None, None, None),
  )
  predictor = predictor._replace(**moving)
  # Always: a step was taken. A choice fuses with what the caller does next; XLA's
  # CPU compiler makes of a lone addition a loop that takes twice as long.
  is_taken = predictor.step_count > 0
  updates = show(updates)
  updates = optax.tree.where(is_taken, updates, trees.zeros(updates))
  kept = None
  if state.params is not None:
    kept = optax.apply_updates(params, updates)
  return updates, AccelerateState(
    predictor=packing.pack(predictor, like),
    base_optimizer_state=base_state,
    start_base_state=start_state,
    params=kept,
  )


def _measure_way_back(state, seen, moved, opened):
  """How far it is back from where the caller will be, if numbers are coarse.

  That is where parameters are recognized, and a coarse way ends elsewhere.
  """
  leaves = jax.tree.leaves((seen, moved))
  if all(jnp.finfo(x.dtype).eps < _COARSE for x in leaves):
    return state
  # Once rounded: XLA may keep more digits within a computation.
  held = lax.optimization_barrier(optax.apply_updates(seen, moved))
  length = limits.measure_distance(held, state.retreat.start_params)
  length = jnp.where(opened, length, state.retreat.length)
  return state._replace(retreat=state.retreat._replace(length=length))


def _pick(state):
  return {name: getattr(state, name) for name in _MOVING}
