"""From counts to ratios: the numbers that the page and the figure show."""

import math
import statistics
from typing import NamedTuple

from benchmarks.methods import opponents
from benchmarks.rates import collecting
from benchmarks.rates import plan
from benchmarks.savings import analysis

GROUPS = ("reporting", "cutest")


class Column(NamedTuple):
  """A method at a rate, or tuned, or with a search."""

  method: str
  label: str


def tuned(base: str) -> Column:
  """A base alone, at its best rate for each target."""
  return Column(base, collecting.TUNED)


def search(method: str) -> Column:
  """A method that needs no rate."""
  return Column(method, collecting.SEARCH)


def predicting(base: str, label: str) -> Column:
  """A base with prediction, at a rate."""
  return Column(f"{base}+accelerate", label)


def members(found: dict, group: str) -> dict[str, dict]:
  """The tasks of a group."""
  tasks = found["tasks"].items()
  return {n: task for n, task in tasks if analysis.group(n, task) == group}


def counts(task: dict, column: Column, tau: float) -> list | None:
  """True gradients from every start that was run; None if none was."""
  by_method = task["counts"].get(str(tau), {})
  return by_method.get(column.method, {}).get(column.label)


def median(counts: list[float | None]) -> float | None:
  """The median over starts; None where it is a miss."""
  found = statistics.median(math.inf if x is None else x for x in counts)
  return found if math.isfinite(found) else None


def compare(
  found: dict, ours: Column, theirs: Column, tau: float, group: str
) -> list[analysis.Comparison]:
  """Two columns on every task that both ran and one solved.

  Medians are over the starts that both were run from.
  """
  compared = []
  for name, task in members(found, group).items():
    a, b = counts(task, ours, tau), counts(task, theirs, tau)
    if not a or not b:
      continue
    both = min(len(a), len(b))
    a, b = median(a[:both]), median(b[:both])
    ratio = analysis.ratio(a, b, task["budget"])
    if ratio is not None:
      compared.append(analysis.Comparison(name, ratio, a, b))
  return compared


class Pooled(NamedTuple):
  """All bases with prediction against the tuned base, on every task.

  Attributes:
    at_best: at the base's best rate.
    at_own: at the best of the rates that were run, for each task.
  """

  at_best: list[analysis.Comparison]
  at_own: list[analysis.Comparison]


def pool(found: dict, tau: float, group: str) -> Pooled:
  """Where the base is tuned, and where prediction is too."""
  at_best, at_own = [], []
  for base in opponents.BASES:
    best: dict[str, analysis.Comparison] = {}
    for label in plan.labels_of(base):
      listed = compare(found, predicting(base, label), tuned(base), tau, group)
      if label == plan.BEST:
        at_best += listed
      for one in listed:
        known = best.setdefault(one.task, one)
        if one.ratio < known.ratio:
          best[one.task] = one
    at_own += best.values()
  return Pooled(at_best, at_own)


def count_harm(compared: list[analysis.Comparison]) -> int:
  """How many needed more than the tuned base."""
  return sum(c.ratio > analysis.HARM for c in compared)


class Mean(NamedTuple):
  """A geometric mean of ratios.

  Attributes:
    solved: over the tasks that both solved; NaN of none.
    budget: over those that either solved, a miss counted as the whole budget.
    both: how many both solved.
    only_ours: how many only we did.
    only_theirs: how many only they did.
  """

  solved: float
  budget: float
  both: int
  only_ours: int
  only_theirs: int


def _exp_mean(ratios: list[float]) -> float:
  if not ratios:
    return math.nan
  return math.exp(statistics.fmean(map(math.log, ratios)))


def mean(found: dict, compared: list[analysis.Comparison]) -> Mean:
  """The geometric mean of comparisons, with and without misses."""
  both = [c for c in compared if None not in (c.ours, c.theirs)]
  full = [
    (c.ours or found["tasks"][c.task]["budget"])
    / (c.theirs or found["tasks"][c.task]["budget"])
    for c in compared
  ]
  return Mean(
    _exp_mean([c.ratio for c in both]),
    _exp_mean(full),
    len(both),
    sum(c.theirs is None for c in compared),
    sum(c.ours is None for c in compared),
  )


def solved(
  found: dict, column: Column, tau: float, group: str
) -> tuple[int, int]:
  """Tasks whose target the median start reached, and tasks that were run."""
  run = [counts(t, column, tau) for t in members(found, group).values()]
  medians = [median(x) for x in run if x]
  return sum(m is not None for m in medians), len(medians)


def steps(found: dict, column: Column, group: str) -> float | None:
  """Optimizer steps per true gradient, the median over tasks."""
  listed = [
    task["steps"].get(column.method, {}).get(column.label)
    for task in members(found, group).values()
  ]
  listed = [x for x in listed if x is not None]
  return statistics.median(listed) if listed else None


def curves(
  found: dict, columns: list[Column], tau: float, group: str
) -> list[list[float]]:
  """For each column its counts over the tasks that ran all of them, sorted.

  A miss is infinite.
  """
  rows = []
  for task in members(found, group).values():
    listed = [counts(task, column, tau) for column in columns]
    if all(listed):
      least = min(map(len, listed))
      medians = [median(x[:least]) for x in listed]
      rows.append([math.inf if m is None else m for m in medians])
  return [sorted(column) for column in zip(*rows, strict=True)]


def quantile(ordered: list[float], share: float) -> float:
  """Of a sorted list, by rank, so that it may be infinite."""
  return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
