"""What a predictor is made of, and what follows from it."""

import math
from typing import Any
from typing import NamedTuple

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _sums


class Parts(NamedTuple):
  """The options of one predictor, checked.

  Attributes:
    forecaster: how gradients are predicted.
    horizon: how many steps are predicted.
    correction_weight: weight of the accumulated correction.
    history_dtype: of the bulk of the history; ``None`` for each parameter's own.
  """

  forecaster: _base.Forecaster
  horizon: _base.Horizon
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


def motion(parts: Parts, state: Any, params: Any) -> _base.Motion:
  """Since the last true gradient, nothing measured yet."""
  if not parts.keeps_anchor:
    return _base.Motion(state.elapsed_steps)
  _checks.check_present("params", params)
  _checks.check_like("params", params, state.anchor_params)
  return _base.Motion(state.elapsed_steps, params, state.anchor_params)


def measured(parts: Parts, moved: _base.Motion) -> _base.Motion:
  """With the distance."""
  if not parts.keeps_anchor:
    return moved
  return moved._replace(distance=_sums.norm(moved.displacement))


def projected(parts: Parts, state: Any, moved: _base.Motion) -> _base.Motion:
  """With all that takes a pass over the history."""
  if parts.forecaster.project is None:
    return moved if moved.distance is not None else measured(parts, moved)
  moved = moved._replace(distance=None)
  distance, projection = parts.forecaster.project(state.gradient_history, moved)
  return moved._replace(distance=distance, projection=projection)
