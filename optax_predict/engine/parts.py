"""What a predictor is made of, and what follows from it."""

import math
from typing import Any
from typing import NamedTuple

from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.core import reductions


class Parts(NamedTuple):
  """The options of one predictor, checked.

  Attributes:
    forecaster: how gradients are predicted.
    horizon: how many steps are predicted.
    correction_weight: weight of the accumulated correction.
    history_dtype: of the bulk of the history; ``None`` for each parameter's own.
  """

  forecaster: interfaces.Forecaster
  horizon: interfaces.Horizon
  correction_weight: Any
  history_dtype: Any

  @property
  def corrects(self) -> bool:
    """Whether a correction is kept: a traced weight may be anything."""
    weight = self.correction_weight
    return not (isinstance(weight, (int, float)) and weight == 0)

  @property
  def is_bounded(self) -> bool:
    """Whether the horizon limits how gradients and ways may grow."""
    return self.horizon.max_growth is not None

  @property
  def has_limits(self) -> bool:
    """Whether the horizon ends windows early."""
    return self.is_bounded or self.horizon.max_expected_error is not None

  @property
  def may_retreat(self) -> bool:
    """Whether windows may be taken back."""
    return self.horizon.max_error is not None

  @property
  def max_error(self) -> float:
    """The relative error above which they are."""
    return (
      math.inf if self.horizon.max_error is None else self.horizon.max_error
    )

  @property
  def keeps_anchor(self) -> bool:
    """Whether it matters how far the parameters have moved."""
    return self.forecaster.needs_params or self.has_limits or self.may_retreat

  @property
  def needs_look_ahead(self) -> bool:
    """Whether a look ahead may end a window."""
    return self.forecaster.needs_look_ahead or self.keeps_anchor


def begin_motion(parts: Parts, state: Any, params: Any) -> interfaces.Motion:
  """Since the last true gradient, nothing measured yet."""
  if not parts.keeps_anchor:
    return interfaces.Motion(state.window.elapsed_steps)
  checks.check_present("params", params)
  checks.check_like("params", params, state.anchor.params)
  return interfaces.Motion(
    state.window.elapsed_steps, params, state.anchor.params
  )


def measure_motion(parts: Parts, moved: interfaces.Motion) -> interfaces.Motion:
  """With the distance."""
  if not parts.keeps_anchor:
    return moved
  return moved._replace(distance=reductions.norm(moved.displacement))


def project_motion(
  parts: Parts, state: Any, moved: interfaces.Motion
) -> interfaces.Motion:
  """With all that takes a pass over the history."""
  if parts.forecaster.project is None:
    return moved if moved.distance is not None else measure_motion(parts, moved)
  moved = moved._replace(distance=None)
  distance, projection = parts.forecaster.project(state.gradient_history, moved)
  return moved._replace(distance=distance, projection=projection)
