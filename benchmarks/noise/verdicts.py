"""The second stage: steps saved, loss after equal gradients, and the rule."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.noise import cells
from benchmarks.noise import intervals
from benchmarks.noise import plan

# What ships: at least this share of the steps in the mean, for certain more
# than none, and nowhere more than that share lost.
LEAST, HARM = 0.05, 0.02
_FULL = "1.0"
# Losses are kept with six digits.
_SAME = 1e-5
# A task at a batch size before a base under a schedule.
Place = tuple[str, str]


class Gain(NamedTuple):
  """A share of the steps that is saved, its interval and the worst place."""

  mean: float
  low: float
  high: float
  worst: float
  places: int

  @property
  def passes(self) -> bool:
    """Whether it is worth a name."""
    return self.low > 0 and self.mean >= LEAST and self.worst >= -HARM


def places(found: dict, base: str | None = None) -> list[Place]:
  """Settings of the second stage under each schedule."""
  return [
    (setting, schedule)
    for setting in found["finals"]
    if base in (None, cells.parts(setting)[2])
    for schedule in plan.SCHEDULES
  ]


def rows(found: dict) -> list[str]:
  """The rows of the second stage, in the order of the plan."""
  run = set(found["finalists"])
  return [row for m in plan.METHODS if m in run for row in plan.rows(m)]


def chosen(found: dict, setting: str, method: str) -> int:
  """Which rate of the second stage is a method's best."""
  cell = found["finals"][setting]
  losses = [
    cells.final_loss(cell[f"{plan.SCHEDULES[0]}.{_FULL}.{k}"], method)
    for k in range(len(plan.NEIGHBOURS))
  ]
  return int(np.argmin(losses))


def _losses(cell: dict, row: str) -> np.ndarray:
  """Of seeds; a run that diverged has the worst loss of any in the cell."""
  finite = [x for listed in cell["losses"].values() for x in listed if x]
  worst = max(finite)
  return np.array([worst if x is None else x for x in cell["losses"][row]])


def curve(found: dict, place: Place, row: str) -> np.ndarray:
  """Final losses of (lengths, seeds), at the method's best rate."""
  setting, schedule = place
  stages = [f"{schedule}.{length}.{cells.BEST}" for length in plan.LENGTHS]
  if schedule == plan.SCHEDULES[0]:
    k = chosen(found, setting, plan.method_of(row))
    stages[list(map(str, plan.LENGTHS)).index(_FULL)] = (
      f"{schedule}.{_FULL}.{k}"
    )
  cell = found["finals"][setting]
  return np.stack([_losses(cell[stage], row) for stage in stages])


def _saved(ours: np.ndarray, base: np.ndarray, seeds: np.ndarray) -> float:
  means = [x[:, seeds].mean(1) for x in (ours, base)]
  return intervals.saved(plan.LENGTHS, *means)


def _pooled(curves, statistic: Callable) -> tuple[float, float, float]:
  mean = lambda seeds: float(  # noqa: E731
    np.mean([statistic(ours, theirs, seeds) for ours, theirs in curves])
  )
  return intervals.jackknife(mean, len(plan.SEEDS))


def steps(
  found: dict, row: str, against: str = plan.BASE, base: str | None = None
) -> Gain:
  """Steps saved in the mean over places."""
  curves = [
    (curve(found, p, row), curve(found, p, against))
    for p in places(found, base)
  ]
  everyone = np.arange(len(plan.SEEDS))
  each = [intervals.share(_saved(*pair, everyone)) for pair in curves]
  ends = [intervals.share(x) for x in _pooled(curves, _saved)]
  return Gain(*ends, min(each), len(each))


def at_place(found: dict, row: str, place: Place) -> tuple[float, float, float]:
  """Steps saved at one place, with its interval."""
  pair = curve(found, place, row), curve(found, place, plan.BASE)
  return tuple(intervals.share(x) for x in _pooled([pair], _saved))


def loss(
  found: dict, row: str, base: str | None = None
) -> tuple[float, float, float]:
  """The loss after equal gradients over the base's, less one; its interval."""
  middle = [str(x) for x in plan.LENGTHS].index(_FULL)
  curves = [
    (curve(found, p, row)[middle], curve(found, p, plan.BASE)[middle])
    for p in places(found, base)
  ]
  relative = lambda a, b, seeds: a[seeds].mean() / b[seeds].mean() - 1  # noqa: E731
  return _pooled(curves, relative)


def is_candidate(row: str) -> bool:
  """Whether a row is neither the base, nor the library, nor an opponent.

  An average beside the base is a candidate.
  """
  return row != plan.BASE and (
    plan.method_of(row) == plan.BASE or plan.is_new(plan.method_of(row))
  )


def control(row: str) -> str:
  """What optax has that does much the same as a candidate."""
  return plan.METHODS[plan.method_of(row)].control


def passing(found: dict) -> list[str]:
  """The candidates that the rule lets ship."""
  return [
    row for row in rows(found) if is_candidate(row) and steps(found, row).passes
  ]


def best_opponent(found: dict) -> str:
  """The row that optax has and that saves most."""
  listed = [
    row for row in rows(found) if row != plan.BASE and not is_candidate(row)
  ]
  return max(listed, key=lambda row: steps(found, row).mean)


class Rest(NamedTuple):
  """The library beside its base, relative to the base's losses.

  Attributes:
    same: runs that ended where the base did.
    runs: all of them.
    farthest: how far one ended from it, above or below.
    mean: the mean of all, with its interval.
  """

  same: int
  runs: int
  farthest: float
  mean: tuple[float, float, float]


def resting(found: dict) -> Rest | None:
  """Whether the library rests; None if it was not run."""
  cells_ = found["rests"].values()
  if not cells_:
    return None
  ours, base = (
    np.array([cell["losses"][row] for cell in cells_])
    for row in (plan.LIBRARY, plan.BASE)
  )
  apart = ours / base - 1
  mean = intervals.jackknife(
    lambda seeds: float(apart[:, seeds].mean()), len(plan.SEEDS)
  )
  same = int((np.abs(apart) < _SAME).sum())
  return Rest(same, apart.size, float(np.abs(apart).max()), mean)
