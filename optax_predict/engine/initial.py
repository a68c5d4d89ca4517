"""The state that a predictor begins with, and what tells it from another's."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import trees
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import Anchor
from optax_predict.engine.state import ForecastStatistics
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
      reach=real() if parts.is_bounded else None,
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
  """Shapes for :mod:`packing`: of the state that ``init_state`` makes."""
  state = jax.eval_shape(functools.partial(init_state, parts), params)
  return shape_small(parts, state)


def shape_small(parts: Parts, state: PredictState) -> PredictState:
  """Shapes for :mod:`packing`: of this state.

  What is a tree like the parameters stands alone, whatever its leaves are: it is
  nothing where there are no parameters.
  """

  def is_nothing(x):
    return isinstance(x, tuple) and not x

  without = jax.eval_shape(lambda: init_state(parts, ()))
  places = jax.tree.leaves(without, is_leaf=is_nothing)
  treedef: Any = jax.tree.structure(without, is_leaf=is_nothing)
  alone = jax.ShapeDtypeStruct([0], jnp.float32)
  return treedef.unflatten(
    alone if is_nothing(place) else jax.ShapeDtypeStruct(x.shape, x.dtype)
    for place, x in zip(places, treedef.flatten_up_to(state), strict=True)
  )


def check_state(parts: Parts, state: Any, params: Any) -> None:
  """Refuses a state that a checkpoint or another optimizer has left."""
  if isinstance(state, PredictState) and state.anchor.params is not None:
    checks.check_like("params", params, state.anchor.params)
  made = jax.eval_shape(functools.partial(init_state, parts), params)
  checks.check_state(state, made)
