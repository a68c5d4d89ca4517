"""A predictor's types, and what can be read off its state alone."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict.core import packing


class Anchor(NamedTuple):
  """The last true gradient in the history.

  Attributes:
    params: parameters it was taken at; ``None`` when neither forecaster nor
      horizon needs them.
    gradient_norm: as it was passed on, a real scalar.
    excess: by what share of the longest that the horizon allows it was longer, a
      real scalar; 0 when it was passed on as it was.
  """

  params: Any
  gradient_norm: jax.Array
  excess: jax.Array


class Window(NamedTuple):
  """The predicted steps since then.

  Attributes:
    planned_steps: that there were to be, ``int32[]``; 0 for no window.
    remaining_steps: that are left, ``int32[]``; 0 when a true gradient is due.
    elapsed_steps: steps taken, that from the true gradient counted, ``int32[]``.
    was_cut: 1 when a step was refused or too long, ``int32[]``.
    has_failed: 1 from an end that is not finite until the horizon hears, ``int32[]``.
    reach: how far from the anchor it may lead, a real scalar; 0 for any distance,
      ``None`` when the horizon sets no limit.
    first_update: length of the update from the true gradient, a real scalar, known
      from the window's first step on; ``None`` when the horizon sets no limit.
    longest_update: longest update it allows, a real scalar, known from its first
      step on; ``None`` when the horizon sets no limit.
    distance: between anchor and parameters at its last step, a real scalar;
      ``None`` with the anchor's parameters.
  """

  planned_steps: jax.Array
  remaining_steps: jax.Array
  elapsed_steps: jax.Array
  was_cut: jax.Array
  has_failed: jax.Array
  reach: Any
  first_update: Any
  longest_update: Any
  distance: Any


class Retreat(NamedTuple):
  """Where to go back to, should the true gradient say so.

  Attributes:
    start_params: parameters that the last window's predicted steps began from.
    length: distance from there to where they led, a real scalar; 0 when there is
      nothing to take back.
    is_due: 1 once the true gradient there says to take them back, ``int32[]``.
  """

  start_params: Any
  length: jax.Array
  is_due: jax.Array


class ForecastStatistics(NamedTuple):
  """How good forecasts were.

  Attributes:
    forecasts: true gradients that a forecast was compared with, ``int32[]``.
    relative_error: of the last forecast, ``float32[]``.
    correlation: of the last forecast, ``float32[]``.
    mean_error: mean of all relative errors, ``float32[]``.
    recent_error: running mean of the relative errors, ``float32[]``.
  """

  forecasts: jax.Array
  relative_error: jax.Array
  correlation: jax.Array
  mean_error: jax.Array
  recent_error: jax.Array


class Look(NamedTuple):
  """Whether true gradients are noise: some are compared with the last recorded one.

  A distance is that of their directions, both gradients scaled to unit length.

  Attributes:
    remaining: that are still to be compared, ``int32[]``.
    rest: how many are let through after them if they are noise, ``int32[]``; 0 once
      they are not.
    nearest: least distance of one to the last recorded, a real scalar from 0 to 2.
    farthest: largest distance, likewise.
  """

  remaining: jax.Array
  rest: jax.Array
  nearest: jax.Array
  farthest: jax.Array


class PredictState(NamedTuple):
  """State of one predictor.

  Attributes:
    step_count: optimizer steps taken, true and predicted, ``int32[]``.
    true_gradient_count: true gradients seen, ``int32[]``.
    rest_steps: true gradients that are still to be let through unseen,
      ``int32[]``.
    history_size: true gradients in the history, ``int32[]``.
    statistics: of the forecasts.
    look: whether true gradients are noise.
    window: predicted steps since the last true gradient.
    retreat: where to go back to; ``None`` when the horizon takes no window back.
    horizon_state: the horizon's.
    anchor: the last true gradient in the history.
    gradient_history: the forecaster's.
    accumulated_correction: like the parameters, or ``None`` when the weight of
      the correction is 0.
  """

  step_count: jax.Array
  true_gradient_count: jax.Array
  rest_steps: jax.Array
  history_size: jax.Array
  statistics: ForecastStatistics
  look: Look
  window: Window
  retreat: Retreat | None
  horizon_state: Any
  anchor: Anchor
  gradient_history: Any
  accumulated_correction: Any


class AccelerateState(NamedTuple):
  """State of :func:`accelerate`.

  Attributes:
    predictor: a :class:`PredictState` in few arrays: its integers are one vector, its
      real numbers and small matrices another. :func:`get_stats` reads it.
    base_optimizer_state: the base's, after all predicted steps; a vector stands for
      each of its trees where small arrays are one vector.
    start_base_state: the base's where the predicted steps of the last window
      began, to go back to; ``None`` where the horizon takes no window back.
    params: a copy of the parameters; ``None`` unless ``keep_params`` is set.
  """

  predictor: packing.Packed
  base_optimizer_state: Any
  start_base_state: Any
  params: Any


class PredictorStats(NamedTuple):
  """What a run of predictions did so far; all arrays.

  Attributes:
    total_steps: optimizer steps taken, ``int32[]``.
    computed_steps: of these, steps with a true gradient, ``int32[]``.
    predicted_steps: of these, steps with a predicted gradient, ``int32[]``.
    prediction_ratio: predicted over total steps, counted, ``float32[]``.
    mean_error: mean relative error of all forecasts, a ratio of norms,
      ``float32[]``.
    recent_error: the same with older forecasts fading, ``float32[]``.
    correlation: cosine between the last forecast and the true gradient,
      ``float32[]``.
    horizon: predicted steps that the window since the last true gradient was
      to have, ``int32[]``.
    history_size: true gradients in the history, ``int32[]``.
  """

  total_steps: jax.Array
  computed_steps: jax.Array
  predicted_steps: jax.Array
  prediction_ratio: jax.Array
  mean_error: jax.Array
  recent_error: jax.Array
  correlation: jax.Array
  horizon: jax.Array
  history_size: jax.Array

  def __str__(self) -> str:
    """One line for a log."""
    return (
      f"{int(self.total_steps)} steps from {int(self.computed_steps)} true"
      f" gradients ({float(self.prediction_ratio):.1%} predicted), relative"
      f" error {float(self.recent_error):.3g}, correlation"
      f" {float(self.correlation):.3f}, horizon {int(self.horizon)}"
    )


class GradientPredictor(NamedTuple):
  """The operations of a predictor: pure functions on one :class:`PredictState`.

  The order at a true gradient is ``compute_correction``, ``record_gradient``,
  ``apply_correction``. ``params`` are the parameters the
  gradient is or would be taken at; forecasters that predict in the parameters
  need them.

  Attributes:
    init: ``init(params) -> state``.
    should_compute_full: ``should_compute_full(state) -> bool[]``, whether a
      true gradient is due: the history is short, the window is used up or was
      stopped, or the last forecast was poor.
    record_gradient: ``record_gradient(gradients, state, params=None, *,
      value=None) -> state``
      compares the forecast with a true gradient, sets the next window and puts
      the gradient into the history. A gradient that is not finite, or whose
      norm overflows, is counted and otherwise left out.
    predict_gradient: ``predict_gradient(state, params=None) -> (gradients,
      state)``, always finite: should the forecast not be, zeros are returned and a
      true gradient is due. Where the horizon limits growth, a longer forecast is
      scaled down.
    compute_correction: ``compute_correction(gradients, state, params=None) ->
      (correction, state)``: true gradient minus the forecast for it, zeros if
      nothing was predicted since the last true gradient. It is added to the
      accumulator, if there is one.
    apply_correction: ``apply_correction(gradients, state) -> (gradients,
      state)``: what a true gradient is handed on as, after it was recorded: at the
      length the horizon allows, and with the weighted accumulator, which it clears.
      Zeros for one that is not finite where its window is to be taken back.
    get_stats: ``get_stats(state) -> PredictorStats``.
    reset: ``reset(state) -> state``, as after ``init``.
  """

  init: Callable[..., PredictState]
  should_compute_full: Callable[[PredictState], jax.Array]
  record_gradient: Callable[..., PredictState]
  predict_gradient: Callable[..., tuple[Any, PredictState]]
  compute_correction: Callable[..., tuple[Any, PredictState]]
  apply_correction: Callable[..., tuple[Any, PredictState]]
  get_stats: Callable[[PredictState], PredictorStats]
  reset: Callable[[PredictState], PredictState]


def should_compute_full(state: PredictState | AccelerateState) -> jax.Array:
  """Whether a true gradient is due, ``bool[]``."""
  state = _open(state)
  return state.window.remaining_steps <= 0


def get_stats(state: PredictState | AccelerateState) -> PredictorStats:
  """Counts and errors so far."""
  state = _open(state)
  predicted = state.step_count - state.true_gradient_count
  total = jnp.maximum(state.step_count, 1).astype(jnp.float32)
  return PredictorStats(
    total_steps=state.step_count,
    computed_steps=state.true_gradient_count,
    predicted_steps=predicted,
    prediction_ratio=predicted.astype(jnp.float32) / total,
    mean_error=state.statistics.mean_error,
    recent_error=state.statistics.recent_error,
    correlation=state.statistics.correlation,
    horizon=state.window.planned_steps,
    history_size=state.history_size,
  )


def _open(state: PredictState | AccelerateState) -> PredictState:
  """The state as far as its statistics and window: these stand first in few arrays."""
  if isinstance(state, PredictState):
    return state
  count: Any = jax.ShapeDtypeStruct([], jnp.int32)
  real: Any = jax.ShapeDtypeStruct([], jnp.float32)
  unread: Any = dict.fromkeys(PredictState._fields)
  unread_window: Any = dict.fromkeys(Window._fields)
  like = PredictState(
    **unread
    | {
      "step_count": count,
      "true_gradient_count": count,
      "rest_steps": count,
      "history_size": count,
      "statistics": ForecastStatistics(count, real, real, real, real),
      "look": Look(count, count, real, real),
      "window": Window(
        **unread_window | {"planned_steps": count, "remaining_steps": count}
      ),
    }
  )
  return packing.unpack(state.predictor._replace(trees=()), like)


def reset(state: PredictState | AccelerateState) -> Any:
  """The predictor's state as ``init`` made it: all zeros."""
  if isinstance(state, AccelerateState):
    zeros = jax.tree.map(jnp.zeros_like, state.predictor)
    return state._replace(predictor=zeros)
  return jax.tree.map(jnp.zeros_like, state)
