"""At a true gradient: the forecast is scored and the next window set."""

import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict.core import checks
from optax_predict.core import packing
from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.engine import correction
from optax_predict.engine import initial
from optax_predict.engine import limits
from optax_predict.engine import looking
from optax_predict.engine import scoring
from optax_predict.engine.parts import begin_motion
from optax_predict.engine.parts import measure_motion
from optax_predict.engine.parts import Parts
from optax_predict.engine.parts import project_motion
from optax_predict.engine.state import Anchor
from optax_predict.engine.state import PredictState


def record_gradient(
  parts: Parts,
  gradients: Any,
  state: PredictState,
  params: Any = None,
  *,
  value: Any = None,
) -> PredictState:
  """``GradientPredictor.record_gradient`` of some parts."""
  checks.check_gradients(gradients)
  checks.check_precision(gradients, state.anchor.gradient_norm.dtype)
  moved = begin_motion(parts, state, params)

  def measure():
    norm = reductions.norm(gradients).astype(state.anchor.gradient_norm.dtype)
    return norm, measure_motion(parts, moved).distance

  def measure_nothing():
    return jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(measure)
    )

  def compare():
    # In the norm's place: it is finite where the gradient is.
    turn = looking.measure_turn(parts, gradients, state)
    return turn, measure_nothing()[1]

  # Nothing is computed for a gradient that a rest lets through, and little before it.
  is_resting, is_looking = state.rest_steps > 0, state.look.remaining > 0

  def compare_or_measure():
    return lax.cond(is_looking, compare, measure)

  see = compare_or_measure if looking.can_look(parts) else measure
  norm, distance = lax.cond(is_resting, measure_nothing, see)
  is_finite = jnp.isfinite(norm)
  if value is not None:
    # Beyond the wall of a logarithm the loss is NaN, and its derivative is not.
    value = jnp.asarray(value, jnp.float32)
    is_finite &= jnp.all(jnp.isfinite(value))
  is_usable = is_finite & ~(is_resting | is_looking)
  if distance is not None:
    # There is no anchor yet at the first.
    is_usable &= jnp.isfinite(distance) | (state.history_size == 0)
  located = moved._replace(distance=distance)

  def record(state):
    return _record(parts, gradients, located, value, state)

  retreat = state.retreat
  # Two branches, and none in them that holds the history: XLA would copy it.
  state = state._replace(retreat=None)
  like = initial.leave_out_trees(parts, state)
  pass_by = functools.partial(_pass_by, norm, is_finite)
  state = packing.cond(is_usable, record, pass_by, state, like)
  is_wrong = state.statistics.relative_error > parts.max_error
  retreat = limits.judge_window(
    ~is_finite | (is_usable & is_wrong), params, retreat
  )
  # Both stop together, at the largest integer: their difference is what was predicted.
  step_count = optax.safe_increment(state.step_count)
  has_grown = step_count - state.step_count
  return state._replace(
    step_count=step_count,
    true_gradient_count=state.true_gradient_count + has_grown,
    retreat=retreat,
    window=state.window._replace(
      # Not in the branches: of two equal results XLA makes one, and then copies the
      # history.
      remaining_steps=state.window.planned_steps,
      was_cut=jnp.zeros([], jnp.int32),
      distance=trees.zeros(state.window.distance),
    ),
  )


def receive_gradient(
  parts: Parts,
  gradients: Any,
  state: PredictState,
  params: Any = None,
  *,
  value: Any = None,
) -> tuple[Any, PredictState]:
  """All that is done with a true gradient.

  Returns:
    ``(gradients, state)``: what the base is given, and the state with the gradient
    in its history and the next window set.
  """
  if parts.corrects:
    _, state = correction.compute(parts, gradients, state, params)
  state = record_gradient(parts, gradients, state, params, value=value)
  return correction.apply(parts, gradients, state)


def _record(parts, gradients, moved, value, state):
  forecaster, horizon = parts.forecaster, parts.horizon
  located = project_motion(parts, state, moved)
  history = state.gradient_history
  forecast = forecaster.predict(history, located)
  checks.check_like("gradients", gradients, forecast.gradients)
  error, miss, size = scoring.score_forecast(
    gradients, forecast, state, located, value
  )
  after = functools.partial(_after, error.relative_error)
  steps, horizon_state = horizon.update(
    scoring.tell_failure(error, state.window), state.horizon_state
  )
  rest_steps, look = looking.begin(parts, horizon_state, state.look)
  excess = limits.measure_excess(horizon, size, error, state)
  window = state.window._replace(
    planned_steps=steps,
    elapsed_steps=jnp.ones([], jnp.int32),
    has_failed=jnp.zeros([], jnp.int32),
    reach=limits.set_reach(horizon, moved.distance, horizon_state, state),
  )
  return state._replace(
    rest_steps=rest_steps,
    look=look,
    history_size=jnp.minimum(state.history_size + 1, forecaster.history_size),
    horizon_state=horizon_state,
    window=window,
    statistics=scoring.update_statistics(error, state.statistics),
    gradient_history=forecaster.observe(
      after(gradients), history, located, miss
    ),
    anchor=Anchor(
      params=after(moved.params) if parts.keeps_anchor else None,
      gradient_norm=size / (1 + excess),
      excess=excess,
    ),
  )


def _pass_by(turn, is_finite, state):
  """A gradient that is not finite, looked at, or in a rest: no window follows."""
  window = state.window
  rest_steps, look = looking.go_on(turn, state.rest_steps, state.look)
  has_failed = ~is_finite & (window.planned_steps > 0)
  return state._replace(
    rest_steps=rest_steps,
    look=look,
    anchor=state.anchor._replace(excess=jnp.zeros_like(state.anchor.excess)),
    window=window._replace(
      planned_steps=jnp.zeros([], jnp.int32),
      elapsed_steps=optax.safe_increment(window.elapsed_steps),
      has_failed=jnp.where(has_failed, 1, window.has_failed),
    ),
  )


def _after(error, tree):
  """The tree, once the error of a forecast is known.

  Every read of the state is then before what is written to it: XLA would copy
  it otherwise.
  """
  return jax.tree.map(
    lambda x: jnp.where(error >= 0, x, jnp.zeros_like(x)), tree
  )
