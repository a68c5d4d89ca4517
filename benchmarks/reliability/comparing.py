"""A base optimizer alone, moved a little, and with prediction."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from benchmarks.reliability import families
from benchmarks.reliability import running

# Shares of the gap from the start to the base's best loss.
TAUS = (1e-1, 1e-2, 1e-3)
# The rate that is best for the base, and a careful one.
RATES = {"best rate": 1.0, "a third of it": 1 / 3}
# How far the start of the control is moved, relative to itself.
MOVED = 1e-4


class Size(NamedTuple):
  """How much is run.

  Attributes:
    count: problems per family.
    horizon: true gradients of the base that set its rate and the targets;
      every run has twice as many to reach them.
    grid: learning rates.
    chosen: the families.
    seed: of the problems. The library was mended by looking at those of 0.
  """

  count: int = 20
  horizon: int = 200
  grid: Sequence[float] = tuple(10.0 ** np.arange(-4, 1.1, 1 / 3))
  chosen: Sequence[families.Family] = families.FAMILIES
  seed: int = 1


def compare(name: str, size: Size) -> dict[str, Any]:
  """All problems with one base optimizer.

  Args:
    name: key of ``running.BASES``.
    size: how much to run.

  Returns:
    For each of ``RATES``: ``lost`` and ``control_lost``, numbers of the problems
    that ended worse than they began or not finite though the base alone did
    not; ``rates``; for each target, ``ratios`` and ``control``: true gradients
    relative to the base alone, infinite for a miss.
  """
  data, start = families.draw(size.count, size.chosen, size.seed)
  alone, predicting = (
    running.runner(running.BASES[name], p, 2 * size.horizon, size.chosen)
    for p in (False, True)
  )
  best = best_rates(alone, start, data, size)
  rng = np.random.default_rng(1)
  moved = start * (1 + MOVED * rng.normal(size=start.shape))
  found = {}
  for label, factor in RATES.items():
    rates = np.float32(factor * best)
    base = alone(start, data, rates)
    control = alone(np.float32(moved), data, rates)
    predicted = predicting(start, data, rates)
    found[label] = {
      "rates": rates.tolist(),
      "lost": lost(base, predicted, size.horizon),
      "control_lost": lost(base, control, size.horizon),
      "predicted_steps": predicted.predicted_steps.tolist(),
      "targets": {
        f"{tau:g}": {
          "ratios": ratios(base, predicted, tau, size.horizon).tolist(),
          "control": ratios(base, control, tau, size.horizon).tolist(),
        }
        for tau in TAUS
      },
    }
  return found


def best_rates(alone, start, data, size: Size) -> np.ndarray:
  """The rate of the lowest loss at the horizon, over its last ten gradients."""
  ends = []
  for rate in size.grid:
    losses = alone(start, data, np.full(len(start), rate, np.float32)).losses
    last = losses[max(0, size.horizon - 10) : size.horizon].astype(np.float64)
    ends.append(np.nan_to_num(last.mean(axis=0), nan=np.inf))
  return np.asarray(size.grid)[np.argmin(ends, axis=0)]


def is_bad(runs: running.Runs, horizon: int) -> np.ndarray:
  """Not finite on the way to the horizon, or higher there than at the start."""
  losses = runs.losses[:horizon]
  return ~(np.isfinite(losses).all(axis=0) & (losses[-1] <= losses[0]))


def lost(base: running.Runs, other: running.Runs, horizon: int) -> list[int]:
  """Problems that the base solves and the other run loses."""
  return np.flatnonzero(
    ~is_bad(base, horizon) & is_bad(other, horizon)
  ).tolist()


def ratios(
  base: running.Runs, other: running.Runs, tau: float, horizon: int
) -> np.ndarray:
  """True gradients to a target relative to the base's, infinite for a miss."""
  first = base.losses[0].astype(np.float64)
  best = np.fmin.reduce(base.losses[:horizon], axis=0)
  level = best + tau * (first - best)
  return _needed(other.losses, level) / _needed(base.losses, level)


def _needed(losses, level):
  reached = losses <= level
  return np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, np.inf)
