"""A base optimizer alone, moved a little, and with prediction."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from benchmarks.reliability import families
from benchmarks.reliability import running
import optax_predict

# Shares of the gap from the start to the base's best loss.
TAUS = (1e-1, 1e-2, 1e-3)
# The rate that is best for the base, and careful ones.
RATES = {
  "best rate": 1.0,
  "a third of it": 1 / 3,
  "a tenth of it": 0.1,
  "1/30 of it": 1 / 30,
  "1/100 of it": 0.01,
}
# How much longer the base alone runs, to see whether it loses a problem too or leaves
# its minimum; and how much longer at most, where it takes as many steps as prediction.
LONGER = 10
LONGEST = 100
# The controls: the base alone from a start moved by so much, relative to itself,
# and at so many times the rate.
MOVED = 1e-4
FASTER = 1.05


class Size(NamedTuple):
  """How much is run.

  Attributes:
    count: problems per family.
    horizon: true gradients of the base that set its rate and the targets;
      every run has twice as many to reach them.
    grid: learning rates.
    chosen: the families.
    seed: of the problems. The library was mended by looking at those of 0.
    rates: labels, and factors on the best rate of the base.
  """

  count: int = 20
  horizon: int = 200
  grid: Sequence[float] = tuple(10.0 ** np.arange(-4, 1.1, 1 / 3))
  chosen: Sequence[families.Family] = families.FAMILIES
  seed: int = 1
  rates: Sequence[tuple[str, float]] = tuple(RATES.items())


class Alone(NamedTuple):
  """A base optimizer without prediction.

  Attributes:
    name: key of ``running.BASES``.
    size: how much is run.
    start: of the problems, ``[n, d]``.
    data: of the problems.
    rates: for each of ``size.rates``, ``[n]``.
    runs: for each of ``size.rates``.
  """

  name: str
  size: Size
  start: Any
  data: Any
  rates: dict[str, np.ndarray]
  runs: dict[str, running.Runs]


def alone(name: str, size: Size) -> Alone:
  """Tunes the base on every problem and runs it at each rate of ``size``."""
  data, start = families.draw(size.count, size.chosen, size.seed)
  run = _runner(name, size, None)
  best = best_rates(run, start, data, size)
  rates = {label: np.float32(f * best) for label, f in size.rates}
  runs = {label: run(start, data, rates[label]) for label in rates}
  return Alone(name, size, start, data, rates, runs)


def against(
  base: Alone,
  accelerate: running.Accelerate | None,
  start: Any,
  faster: float = 1.0,
) -> dict[str, Any]:
  """The same problems with prediction, from another start or at another rate.

  Args:
    base: what it is compared with.
    accelerate: from the base to one that predicts; ``None`` for the base alone.
    start: like ``base.start``.
    faster: times the base's rate.

  Returns:
    For each rate of its size: ``lost``, of :func:`lost`; ``not_finite``, the
    problems whose parameters or state ended so though those of the base alone
    did not; ``relapsed``, of :func:`relapses`, and ``relapsed_longer``, those that
    were away for two gradients in a row; ``predicted_steps``; for each target in
    ``ratios``, true gradients relative to the base alone, infinite for a miss.
  """
  run, horizon = _runner(base.name, base.size, accelerate), base.size.horizon
  found = {}
  for label, rates in base.rates.items():
    runs = run(start, base.data, np.float32(faster * rates))
    found[label] = {
      "lost": lost(base.runs[label], runs, horizon),
      "not_finite": np.flatnonzero(
        base.runs[label].is_finite & ~runs.is_finite
      ).tolist(),
      "relapsed": relapses(base.runs[label], runs, horizon),
      "relapsed_longer": relapses(base.runs[label], runs, horizon, at_least=2),
      "predicted_steps": runs.predicted_steps.tolist(),
      "ratios": {
        f"{tau:g}": ratios(base.runs[label], runs, tau, horizon).tolist()
        for tau in TAUS
      },
    }
  return found


def compare(name: str, size: Size) -> dict[str, Any]:
  """All problems with one base optimizer.

  Args:
    name: key of ``running.BASES``.
    size: how much to run.

  Returns:
    For each rate of ``size``: ``lost``, ``control_lost`` and ``faster_lost``,
    ``not_finite``, of :func:`against`, ``lost_later``, of
    :func:`lost_later`, ``relapsed``, of :func:`find_relapses`, ``rates``,
    ``predicted_steps``, and for each of the ``targets``, ``ratios``, ``control``
    and ``faster``; as of :func:`against`.
  """
  base = alone(name, size)
  rng = np.random.default_rng(1)
  moved = base.start * (1 + MOVED * rng.normal(size=base.start.shape))
  control = against(base, None, np.float32(moved))
  faster = against(base, None, base.start, FASTER)
  found = against(base, optax_predict.accelerate, base.start)
  return {
    label: {
      "rates": base.rates[label].tolist(),
      "lost": outcome["lost"],
      "not_finite": outcome["not_finite"],
      "control_lost": control[label]["lost"],
      "faster_lost": faster[label]["lost"],
      "lost_later": lost_later(base, label, outcome["lost"]),
      "relapsed": find_relapses(base, label, outcome),
      "predicted_steps": outcome["predicted_steps"],
      "targets": {
        tau: {
          "ratios": each,
          "control": control[label]["ratios"][tau],
          "faster": faster[label]["ratios"][tau],
        }
        for tau, each in outcome["ratios"].items()
      },
    }
    for label, outcome in found.items()
  }


def lost_later(base: Alone, label: str, lost: Sequence[int]) -> list[int]:
  """Of some problems, those that the base alone loses too, only later.

  With prediction an optimizer takes more steps in as many gradients. Where it is
  unstable at the end of its way, it gets there sooner.

  Args:
    base: the base alone.
    label: of the rate.
    lost: problems.

  Returns:
    Those of them on which the base alone, run ``LONGER`` times as long, is above
    its start or not finite at any gradient after the horizon.
  """
  size, found = base.size, []
  budget = LONGER * size.horizon
  for i in sorted({problem // size.count for problem in lost}):
    make, family = running.BASES[base.name], slice(i, i + 1)
    run = running.runner(make, None, budget, size.chosen[family])
    at = slice(i * size.count, (i + 1) * size.count)
    runs = run(base.start[at], base.data[family], base.rates[label][at])
    is_low = runs.losses[size.horizon :] <= runs.losses[0]
    found += (at.start + np.flatnonzero(~is_low.all(axis=0))).tolist()
  return sorted(set(lost) & set(found))


def find_relapses(
  base: Alone, label: str, outcome: dict[str, Any]
) -> dict[str, list[int]]:
  """Problems whose minimum was left again, with prediction and without.

  Args:
    base: the base alone.
    label: of the rate.
    outcome: with prediction at that rate, of :func:`against`.

  Returns:
    Of :func:`relapses`, ``with prediction``; ``for two gradients``, the same for two
    in a row; ``alone``, for as many gradients; ``alone, longer``, for ``LONGER``
    horizons; ``alone, as many steps`` as the run with prediction took, for
    ``LONGEST`` horizons at most.
  """
  make, size, runs = running.BASES[base.name], base.size, base.runs[label]
  run = running.runner(make, None, LONGEST * size.horizon, size.chosen)
  longest = run(base.start, base.data, base.rates[label])
  longer = longest._replace(losses=longest.losses[: LONGER * size.horizon])
  steps = len(runs.losses) + np.asarray(outcome["predicted_steps"])
  return {
    "with prediction": outcome["relapsed"],
    "for two gradients": outcome["relapsed_longer"],
    "alone": relapses(runs, runs, size.horizon),
    "alone, longer": relapses(runs, longer, size.horizon),
    "alone, as many steps": relapses(runs, longest, size.horizon, until=steps),
  }


def _runner(name, size, accelerate):
  make = running.BASES[name]
  return running.runner(make, accelerate, 2 * size.horizon, size.chosen)


def best_rates(run, start, data, size: Size) -> np.ndarray:
  """The rate of the lowest loss at the horizon, over its last ten gradients."""
  ends = []
  for rate in size.grid:
    losses = run(start, data, np.full(len(start), rate, np.float32)).losses
    last = losses[max(0, size.horizon - 10) : size.horizon].astype(np.float64)
    ends.append(np.nan_to_num(last.mean(axis=0), nan=np.inf))
  return np.asarray(size.grid)[np.argmin(ends, axis=0)]


def is_bad(runs: running.Runs, horizon: int) -> np.ndarray:
  """Not finite on the way to the horizon, or higher there than at the start."""
  losses = runs.losses[:horizon]
  return ~(np.isfinite(losses).all(axis=0) & (losses[-1] <= losses[0]))


def lost(base: running.Runs, other: running.Runs, horizon: int) -> list[int]:
  """Problems that the base solves and the other loses, by the horizon."""
  return np.flatnonzero(
    ~is_bad(base, horizon) & is_bad(other, horizon)
  ).tolist()


def ratios(
  base: running.Runs, other: running.Runs, tau: float, horizon: int
) -> np.ndarray:
  """True gradients to a target relative to the base's, infinite for a miss."""
  level = _level(base, tau, horizon)
  return _needed(other.losses, level) / _needed(base.losses, level)


def relapses(
  base: running.Runs,
  other: running.Runs,
  horizon: int,
  *,
  at_least: int = 1,
  until: np.ndarray | None = None,
) -> list[int]:
  """Problems that were nearly solved and then left again.

  Args:
    base: sets the levels.
    other: what is looked at.
    horizon: true gradients of the base that set the levels.
    at_least: for so many gradients in a row.
    until: how many of the gradients are looked at, ``[n]``; all if ``None``.

  Returns:
    Problems whose loss, after it had come to the smallest of ``TAUS``, was above
    the largest of them or not finite.
  """
  near, far = (_level(base, tau, horizon) for tau in (min(TAUS), max(TAUS)))
  has_been_near = np.cumsum(other.losses <= near, axis=0) > 0
  is_far = has_been_near & ~(other.losses <= far)
  if until is not None:
    is_far &= np.arange(len(is_far))[:, None] < until
  for _ in range(at_least - 1):
    is_far = is_far[1:] & is_far[:-1]
  return np.flatnonzero(is_far.any(axis=0)).tolist()


def _level(base, tau, horizon):
  first = base.losses[0].astype(np.float64)
  best = np.fmin.reduce(base.losses[:horizon], axis=0)
  return best + tau * (first - best)


def _needed(losses, level):
  reached = losses <= level
  return np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, np.inf)
