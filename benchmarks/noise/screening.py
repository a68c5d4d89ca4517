"""The first stage: what its losses say, and who goes on."""

import statistics

import numpy as np

from benchmarks.noise import plan

# log(0.8): how much shorter the base's second run is.
_SHORTER = float(np.log(min(plan.LENGTHS)))
# No row counts for more than twice or half the steps in a setting.
_MOST = float(np.log(2.0))


def _means(losses: list) -> list[float]:
  """Over seeds, for every rate; infinite where one diverged."""
  return [
    float(np.mean([np.inf if x is None else x for x in at_rate]))
    for at_rate in losses
  ]


def best(screen: dict, row: str) -> tuple[int, float]:
  """Which rate is best for a row, and the loss there."""
  means = _means(screen["losses"][row])
  index = int(np.argmin(means))
  return index, means[index]


def best_rate(screen: dict, method: str) -> float:
  """The rate that the second stage is around."""
  row = min(plan.tuned_by(method), key=lambda row: best(screen, row)[1])
  return screen["rates"][method][best(screen, row)[0]]


def gain(screen: dict, row: str) -> float:
  """Log of the steps saved, by the base's own slope over its length."""
  base = best(screen, plan.BASE)[1]
  slope = (base - min(_means(screen["short"]))) / -_SHORTER
  raw = (best(screen, row)[1] - base) / min(slope, -1e-9)
  return float(np.clip(raw, -_MOST, _MOST))


def gains(screens: dict[str, dict], row: str) -> dict[str, float]:
  """The same for every setting."""
  return {setting: gain(s, row) for setting, s in screens.items()}


def at_edge(screens: dict[str, dict], row: str) -> int:
  """In how many settings the best rate is the first or the last tried."""
  last = len(plan.RATES) - 1
  return sum(best(s, row)[0] in (0, last) for s in screens.values())


def finalists(screens: dict[str, dict]) -> dict[str, list[str]]:
  """The methods of the second stage for each base."""
  new = [m for m in plan.screened() if plan.is_new(m)]
  opponents = [
    m for m in plan.screened() if not plan.is_new(m) and m not in plan.ALWAYS
  ]

  def ranked(methods, base):
    own = {k: s for k, s in screens.items() if base in (None, k.split("-")[2])}
    worth = {
      m: max(statistics.fmean(gains(own, r).values()) for r in plan.rows(m))
      for m in methods
    }
    return sorted(methods, key=worth.get, reverse=True)

  pooled = ranked(new, None)[: plan.FINALISTS]
  controls = {plan.METHODS[m].control for m in pooled}
  best = ranked(opponents, None)[: plan.OPPONENTS]
  found = {}
  for base in plan.BASES:
    left = [m for m in ranked(new, base) if m not in pooled]
    found[base] = [
      *plan.ALWAYS,
      *best,
      *sorted(controls - {*plan.ALWAYS, *best}),
      *pooled,
      *left[: plan.FINALISTS_OF_BASE],
    ]
  return found
