"""Ratios and shares from a summary: the numbers that tables and plots show."""

from collections.abc import Callable
import math
import statistics
from typing import NamedTuple

from benchmarks.methods import opponents

BASES = tuple(opponents.BASES)
MODES = ("drop_in", "tuned")
NOTHING = 0.03
HARM = 1.05
NOISY_HARM = 1.01
_T_95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}


class Comparison(NamedTuple):
  """True gradients of a method relative to another, on one task.

  Attributes:
    task: its name.
    ratio: below 1 saves; infinite when only the other reached the target. When
      only this method reached it, its count over the whole budget, which
      understates it.
    ours: median true gradients over the starts, or None.
    theirs: the same of the other.
  """

  task: str
  ratio: float
  ours: float | None
  theirs: float | None


def group(name: str, task: dict) -> str:
  """The group a task is reported in."""
  return "cutest" if name.startswith("cutest/") else task["role"]


def row(task: dict, method: str, mode: str, tau: float) -> dict | None:
  """One row of a task, or None."""
  for found in task["rows"]:
    if (found["method"], found["mode"], found["tau"]) == (method, mode, tau):
      return found
  return None


def ratio(ours, theirs, budget: int) -> float | None:
  """What `Comparison` holds; None where neither reached the target."""
  if ours is None and theirs is None:
    return None
  if ours is None:
    return math.inf
  return ours / (budget if theirs is None else theirs)


def compare(
  summary: dict,
  ours: tuple[str, str],
  theirs: tuple[str, str],
  tau: float,
  keep: Callable[[str, dict], bool] = lambda name, task: True,
) -> list[Comparison]:
  """Compares two (method, mode) on every task that both ran and one solved."""
  found = []
  for name, task in summary["tasks"].items():
    a, b = row(task, *ours, tau), row(task, *theirs, tau)
    if a is None or b is None or not keep(name, task):
      continue
    share = ratio(a["median"], b["median"], task["budget"])
    if share is not None:
      found.append(Comparison(name, share, a["median"], b["median"]))
  return found


def against_base(
  summary: dict, base: str, mode: str, tau: float, groups: tuple[str, ...]
) -> list[Comparison]:
  """The default prediction against its own base, tuned."""
  return compare(
    summary,
    (f"{base}+predict", mode),
    (base, "tuned"),
    tau,
    lambda name, task: group(name, task) in groups,
  )


def pooled(
  summary: dict, mode: str, tau: float, groups: tuple[str, ...]
) -> list[Comparison]:
  """``against_base`` with every base."""
  return [
    c for base in BASES for c in against_base(summary, base, mode, tau, groups)
  ]


def median(comparisons: list[Comparison]) -> float:
  """The median ratio; NaN of nothing."""
  ratios = [c.ratio for c in comparisons]
  return statistics.median(ratios) if ratios else math.nan


def worst(comparisons: list[Comparison]) -> Comparison | None:
  """The comparison with the largest ratio."""
  return max(comparisons, key=lambda c: c.ratio, default=None)


def solved(
  summary: dict, method: str, mode: str, tau: float, groups: tuple[str, ...]
) -> tuple[int, int]:
  """Tasks whose target the median start reached, and tasks tried."""
  rows = [
    row(task, method, mode, tau)
    for name, task in summary["tasks"].items()
    if group(name, task) in groups
  ]
  rows = [r for r in rows if r is not None]
  return sum(r["median"] is not None for r in rows), len(rows)


class Lag(NamedTuple):
  """Where a data profile lies below another.

  Attributes:
    budgets: numbers of true gradients by which fewer tasks are solved.
    tasks: by how many fewer, at most.
    at: the first number of gradients at which it is so many; ``None`` for none.
  """

  budgets: int
  tasks: int
  at: int | None


def lag(
  summary: dict, base: str, mode: str, tau: float, groups: tuple[str, ...]
) -> Lag:
  """How far the profile of prediction is behind that of its base, tuned.

  A task is solved once the median start reached its target.
  """
  pairs = [
    (row(task, f"{base}+predict", mode, tau), row(task, base, "tuned", tau))
    for name, task in summary["tasks"].items()
    if group(name, task) in groups
  ]
  both = [pair for pair in pairs if None not in pair]
  ours, theirs = (
    [pair[i]["median"] for pair in both if pair[i]["median"] is not None]
    for i in range(2)
  )
  most = math.ceil(max([*ours, *theirs], default=0))
  behind = {
    n: sum(x <= n for x in theirs) - sum(x <= n for x in ours)
    for n in range(1, most + 1)
  }
  tasks = max([0, *behind.values()])
  at = next((n for n, x in behind.items() if x == tasks > 0), None)
  return Lag(sum(x > 0 for x in behind.values()), tasks, at)


def modes_of(method: str) -> tuple[str, ...]:
  """The modes in which a method is shown."""
  known = opponents.METHODS.get(method)
  if known is None:
    return ("tuned",)
  if known.rate_factor is not None:
    return ("drop_in",)
  return MODES if known.has_drop_in else ("tuned",)


class NoisyComparison(NamedTuple):
  """Prediction against its base on one noisy task at one batch size.

  Attributes:
    loss_ratio: final loss over the base's, a geometric mean over seeds.
    low: lower end of its 95 % interval.
    high: upper end of it.
    share: predicted steps of all steps, at each quarter of the budget.
    saving: true gradients relative to the base's, to the best loss the base
      has at each quarter; infinite when it is never reached.
  """

  loss_ratio: float
  low: float
  high: float
  share: list[float]
  saving: list[float]


def _mean_curve(row: dict) -> list[float]:
  """The mean over seeds of the full-data loss, best so far."""
  means = []
  for losses in zip(*row["losses"], strict=True):
    values = [math.inf if x is None else x for x in losses]
    means.append(min([statistics.fmean(values), *means[-1:]]))
  return means


def _first(counts: list[int], curve: list[float], level: float) -> float:
  """The first checkpoint at or below a level, or infinity."""
  pairs = zip(counts, curve, strict=True)
  return next((n for n, x in pairs if x <= level), math.inf)


def _finals(row: dict) -> list[float]:
  last = [losses[-3:] for losses in row["losses"]]
  return [math.inf if None in x else statistics.fmean(x) for x in last]


def _interval(logs: list[float]) -> tuple[float, float, float]:
  if not all(map(math.isfinite, logs)):
    return math.inf, math.inf, math.inf
  mean, count = statistics.fmean(logs), len(logs)
  half = 0.0
  if count > 1:
    half = _T_95.get(count - 1, 2.0) * statistics.stdev(logs) / count**0.5
  return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def noisy(task: dict, base: str, mode: str) -> NoisyComparison | None:
  """Prediction against its base, or None when either was not run."""
  rows = {(r["method"], r["mode"]): r for r in task["rows"]}
  ours, theirs = rows.get((f"{base}+predict", mode)), rows.get((base, "tuned"))
  if ours is None or theirs is None:
    return None
  pairs = zip(_finals(ours), _finals(theirs), strict=True)
  logs = [math.log(a / b) if a < math.inf else math.inf for a, b in pairs]
  curve, base_curve = _mean_curve(ours), _mean_curve(theirs)
  counts, share, saving = theirs["evaluated"], [], []
  for quarter in range(1, 5):
    at = len(counts) * quarter // 4 - 1
    predicted = statistics.fmean(p[at] for p in ours["predicted"])
    share.append(predicted / (predicted + counts[at]))
    ours_at, theirs_at = (
      _first(counts, found, base_curve[at]) for found in (curve, base_curve)
    )
    saving.append(ours_at / theirs_at)
  return NoisyComparison(*_interval(logs), share, saving)
