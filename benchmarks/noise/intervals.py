"""Steps that a method saves, in pairs of seeds, and how sure that is."""

from collections.abc import Callable

import numpy as np
from scipy import stats

# A curve that hardly falls would need any number of steps: it counts as at
# least this share as steep as the base's.
_LEAST_SLOPE = 0.25


def line(logs: np.ndarray, losses: np.ndarray) -> tuple[float, float]:
  """Least squares: height at log length 0, and slope."""
  centred = logs - logs.mean()
  slope = float(centred @ losses / (centred @ centred))
  return float(losses.mean() - slope * logs.mean()), slope


def saved(
  lengths: tuple[float, ...], ours: np.ndarray, base: np.ndarray
) -> float:
  """log(steps of the base / our steps) to the loss that the base ends at.

  Args:
    lengths: relative to the full length, 1.
    ours: mean final losses of runs of these lengths.
    base: those of the base.
  """
  logs = np.log(lengths)
  level, steep = line(logs, base)
  height, slope = line(logs, ours)
  slope = min(slope, _LEAST_SLOPE * steep)
  height = ours.mean() - slope * logs.mean()
  # Both are lines, so a base against itself is exactly zero.
  return (height - level) / slope


def share(log_ratio: float) -> float:
  """A share of the steps, from a logarithm."""
  return 1 - float(np.exp(-log_ratio))


def jackknife(
  statistic: Callable[[np.ndarray], float], count: int, sure: float = 0.95
) -> tuple[float, float, float]:
  """Estimate and interval of a statistic of the means over chosen seeds.

  For a mean it is Student's paired interval.
  """
  everyone = np.arange(count)
  whole = statistic(everyone)
  rest = [statistic(np.delete(everyone, i)) for i in range(count)]
  pseudo = count * whole - (count - 1) * np.array(rest)
  width = stats.t.ppf((1 + sure) / 2, count - 1) * stats.sem(pseudo)
  return whole, whole - width, whole + width
