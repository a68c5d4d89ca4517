"""The first stage: what its losses say, and who goes on."""

import statistics

import numpy as np

from benchmarks.noise import plan

# How much shorter the base's second run is.
_SHORTER = float(np.log(plan.SCREENED_SHORT))
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


def gain(screen: dict, row: str) -> float | None:
  """Log of the steps saved, by the base's own slope over its length.

  None where the base ends no higher after fewer steps: at so few seeds a length
  has no meaning there.
  """
  base = best(screen, plan.BASE)[1]
  slope = (base - min(_means(screen["short"]))) / -_SHORTER
  if slope >= 0:
    return None
  raw = (best(screen, row)[1] - base) / slope
  return float(np.clip(raw, -_MOST, _MOST))


def gains(screens: dict[str, dict], row: str) -> dict[str, float]:
  """The same for every setting where it has a meaning."""
  found = {setting: gain(s, row) for setting, s in screens.items()}
  return {setting: g for setting, g in found.items() if g is not None}


def at_edge(screens: dict[str, dict], row: str) -> int:
  """In how many settings the best rate is the first or the last tried."""
  last = len(plan.RATES) - 1
  return sum(best(s, row)[0] in (0, last) for s in screens.values())


def finalists(screens: dict[str, dict]) -> list[str]:
  """The methods of the second stage: the best, and what explains them."""
  opponents = [
    m for m in plan.screened() if not plan.is_new(m) and m not in plan.ALWAYS
  ]
  new = [m for m in plan.screened() if plan.is_new(m)]

  def worth(method):
    means = [
      statistics.fmean(gains(screens, row).values())
      for row in plan.rows(method)
    ]
    return max(means)

  ranked = lambda methods: sorted(methods, key=worth, reverse=True)  # noqa: E731
  best = ranked(new)[: plan.FINALISTS]
  known = [*plan.ALWAYS, *ranked(opponents)[: plan.OPPONENTS]]
  controls = {plan.METHODS[m].control for m in best}
  return [*known, *sorted(controls - {*known}), *best]
