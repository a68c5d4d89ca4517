"""The result of a backtest, in numbers, words and a picture."""

import math
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from optax_predict import horizons as _horizons
from optax_predict.core import interfaces
from optax_predict.diagnostics import monitoring

# A smaller saving is reported as none.
_NOTHING = 0.05
# With fewer gradients the history is not full, and long horizons are scored once or
# twice.
_FEW = 30


class Score(NamedTuple):
  """How good the forecasts of one forecaster at one horizon were.

  Attributes:
    steps: the step of the run that each forecast was for, ``int[windows]``.
    errors: their relative errors, ratios of norms, ``float[windows]``.
    correlations: cosines with the true gradients, ``float[windows]``.
  """

  steps: np.ndarray
  errors: np.ndarray
  correlations: np.ndarray


class Expectation(NamedTuple):
  """What prediction would have done to the run that was measured.

  Attributes:
    forecaster: name of the forecaster.
    horizon: mean number of predicted steps between two true gradients.
    saving: share of the true gradients it would have saved, in [0, 1).
  """

  forecaster: str
  horizon: float
  saving: float


class Report(NamedTuple):
  """How predictable the gradients of a run are; ``print`` it or ``plot`` it.

  Attributes:
    scores: forecaster's name -> horizon -> :class:`Score`.
    steps: true gradients in the run.
    rtol: of the adaptive horizon, for the expected saving.
    noise: least relative error that any forecaster can have, in [0, 1] or a little
      above. 0 without noise, ``None`` if not measured.
    losses: ``[steps]``, ``None`` if not known.
    params: parameters at the end of the run, ``None`` if not known.
    opt_state: optimizer state at the end of the run, ``None`` if not known.
  """

  scores: dict[str, dict[int, Score]]
  steps: int
  rtol: float
  noise: float | None = None
  losses: np.ndarray | None = None
  params: Any = None
  opt_state: Any = None

  @property
  def balance(self) -> float:
    """The relative error below which windows grow."""
    return balance(self.rtol)

  @property
  def is_noisy(self) -> bool:
    """Whether noise is what keeps prediction off.

    A forecast is made from gradients that have noise, and so has its target: the
    error has twice the squared noise. True if that alone keeps windows from growing,
    and if the expected saving is indeed none.
    """
    if self.noise is None or self.expect().saving >= _NOTHING:
      return False
    return 2 * self.noise**2 >= self.balance**2

  def error(self, forecaster: str, horizon: int) -> float:
    """Median relative error, a ratio of norms."""
    return float(np.median(self.scores[forecaster][horizon].errors))

  def correlation(self, forecaster: str, horizon: int) -> float:
    """Median cosine between forecast and true gradient."""
    return float(np.median(self.scores[forecaster][horizon].correlations))

  def expect(self, forecaster: str | None = None) -> Expectation:
    """What to expect of a forecaster, or of the one that saves most.

    The horizon rule :func:`horizons.adaptive` walks along the run. From a true
    gradient it goes as many steps as its window has. There it reads off the error
    that the backtest measured and sets its next window. That error is the nearest in
    time; between two measured horizons it is interpolated by logarithms. The saving
    is one minus the true gradients the walk took over those the run took.

    Windows are at most as long as the longest horizon that was scored. What else
    ends a window early is left out.

    Args:
      forecaster: one of ``scores``; default the one with the largest saving.

    Raises:
      KeyError: if there is no such forecaster.
    """
    if forecaster is None:
      return max(map(self.expect, self.scores), key=lambda e: e.saving)
    count = _walk(self.scores[forecaster], self.steps, self.rtol)
    return Expectation(
      forecaster, (self.steps - count) / count, 1 - count / self.steps
    )

  def __str__(self) -> str:
    """A table and what it means."""
    return "\n".join([*_table(self), "", *_words(self)])

  def plot(self, ax: Any = None) -> Any:
    """Draws errors over horizons, one line per forecaster.

    Args:
      ax: matplotlib axes to draw into; default new ones.

    Returns:
      The axes.

    Raises:
      ImportError: if matplotlib is not installed.
    """
    return monitoring.plot_report(self, ax)


def balance(rtol: float) -> float:
  """The relative error at which the adaptive horizon keeps its window's length."""
  return 0.81 * rtol


def _walk(scores: dict[int, Score], steps: int, rtol: float) -> int:
  """How many true gradients the adaptive horizon needs for a run of some steps."""
  horizon = _horizons.adaptive(rtol, max_steps=max(1, *scores))
  state, window, rest, count, i = horizon.init(), 0, 0, 1, 0
  while (i := i + window + 1) < steps:
    error = interfaces.ForecastError(
      relative_error=jnp.float32(_error_at(scores, window, i)),
      correlation=jnp.float32(0),
      history_size=jnp.int32(count),
      window_steps=jnp.int32(window),
      window_stopped=jnp.int32(0),
      rested=jnp.int32(rest),
    )
    allowed, state = horizon.update(error, state)
    tired = 0 if horizon.rest is None else int(horizon.rest(state))
    rest = min(tired, steps - 1 - i)
    window, count, i = int(allowed), count + 1 + rest, i + rest
  return count


def _error_at(scores: dict[int, Score], window: int, step: int) -> float:
  """Error after a window of predicted steps that ends at a step of the run."""
  nearest = [
    s.errors[np.argmin(np.abs(s.steps - step))] for s in scores.values()
  ]
  # Errors grow like a power of the distance.
  logs = np.log(np.maximum(nearest, np.finfo(np.float32).tiny))
  distances = np.log1p(list(scores))
  return float(np.exp(np.interp(np.log1p(window), distances, logs)))


def _table(report: Report) -> list[str]:
  names = list(report.scores)
  width = max(14, *map(len, names))
  lines = [
    "relative error and correlation of forecasts (medians), by the number of",
    "steps predicted between two true gradients; scored: how many forecasts",
    "",
    "steps" + "".join(f"  {n:>{width}s}" for n in names) + "  scored",
  ]
  for h in sorted(set().union(*report.scores.values())):
    # A horizon may have no score, since gradients that are not finite are left out.
    cells = [
      f"{report.error(n, h):.2g}  {report.correlation(n, h):5.2f}"
      if h in report.scores[n]
      else "-"
      for n in names
    ]
    row = "".join(f"  {c:>{width}s}" for c in cells)
    scored = max(len(s[h].steps) for s in report.scores.values() if h in s)
    lines.append(f"{h:5d}{row}  {scored:6d}")
  return lines


def _words(report: Report) -> list[str]:
  found, lines = report.expect(), []
  if report.noise:
    lines.append(
      f"Noise: no forecast can have an error below {report.noise:.2g}; windows"
      f" grow while errors are below {balance(report.rtol):.2g}."
    )
  if report.is_noisy:
    lines.append(
      "Noise dominates at this batch size: prediction will stay off."
      + _larger_batch(report)
    )
  elif found.saving < _NOTHING:
    lines.append(
      "Forecasts are too poor here: prediction will stay off or nearly so."
    )
  else:
    steps = max(1, math.floor(found.horizon + 0.5))
    lines.append(
      f"{found.forecaster}, about {steps} step{'s' * (steps > 1)} ahead; expect"
      f" roughly {5 * round(20 * found.saving)} % fewer true gradients."
    )
  if report.steps < _FEW:
    lines.append(
      f"Of {report.steps} gradients only: measure {_FEW} or more to rely on it."
    )
  return lines


def _larger_batch(report: Report) -> str:
  """By how much to enlarge batches: squared noise falls as one over their size."""
  noise = (report.noise or 0.0) ** 2
  allowed = balance(report.rtol) ** 2 / 2
  if noise >= 1:
    return ""
  factor = noise / (1 - noise) * (1 - allowed) / allowed
  return (
    f" Batches about {max(2, math.ceil(factor))} times as large might change"
    " that."
  )
