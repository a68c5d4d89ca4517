"""The state that a predictor begins with, and what of it is small."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import trees
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import Anchor
from optax_predict.engine.state import ForecastStatistics
from optax_predict.engine.state import Look
from optax_predict.engine.state import PredictState
from optax_predict.engine.state import Retreat
from optax_predict.engine.state import Window


def init_state(parts: Parts, params: Any) -> PredictState:
  """``GradientPredictor.init`` of some parts."""
  checks.check_params(params)
  dtype = trees.tree_dtype(params)
  history = parts.forecaster.init(params, parts.history_dtype)

  def count():
    return jnp.zeros([], jnp.int32)

  def scalar():
    return jnp.zeros([], jnp.float32)

  def real():
    return jnp.zeros([], dtype)

  return PredictState(
    step_count=count(),
    true_gradient_count=count(),
    rest_steps=count(),
    gradient_history=history,
    history_size=count(),
    look=Look(count(), count(), real(), real()),
    anchor=Anchor(
      params=trees.zeros(params) if parts.keeps_anchor else None,
      gradient_norm=real(),
      excess=real(),
    ),
    accumulated_correction=trees.zeros(params) if parts.corrects else None,
    horizon_state=parts.horizon.init(),
    window=Window(
      planned_steps=count(),
      remaining_steps=count(),
      elapsed_steps=count(),
      was_cut=count(),
      has_failed=count(),
      reach=real() if parts.is_bounded else None,
      first_update=real() if parts.has_limits else None,
      longest_update=real() if parts.has_limits else None,
      distance=real() if parts.keeps_anchor else None,
    ),
    retreat=Retreat(trees.zeros(params), real(), count())
    if parts.may_retreat
    else None,
    statistics=ForecastStatistics(
      count(), scalar(), scalar(), scalar(), scalar()
    ),
  )


def shape_state(parts: Parts, params: Any) -> PredictState:
  """The ``like`` of :mod:`packing` for the state that ``init_state`` makes."""
  return jax.eval_shape(
    lambda params: leave_out_trees(parts, init_state(parts, params)), params
  )


def leave_out_trees(parts: Parts, state: PredictState) -> Any:
  """The state with ``None`` in the place of all that is like the parameters.

  That is the whole history of a forecaster that does not say.
  """
  history = None
  if parts.forecaster.leave_out_trees is not None:
    history = parts.forecaster.leave_out_trees(state.gradient_history)
  left: Any = state._replace(
    gradient_history=history,
    anchor=state.anchor._replace(params=None),
    accumulated_correction=None,
  )
  if state.retreat is not None:
    left = left._replace(retreat=state.retreat._replace(start_params=None))
  return left


def check_state(parts: Parts, state: Any, params: Any) -> None:
  """Refuses a state that a checkpoint or another optimizer has left."""
  if isinstance(state, PredictState) and state.anchor.params is not None:
    checks.check_like("params", params, state.anchor.params)
  made = jax.eval_shape(functools.partial(init_state, parts), params)
  checks.check_state(state, made)
