"""The learning rate of every method, by one rule for all of them.

Rates are 10^(k/4) for whole k: four points per decade. Decades are searched
first, outwards until the best lies inside what was tried; then halves and
quarters of a decade around the best, until its neighbours are worse. That is
done at the first start. The three best rates of each target then run from the
other starts too, and the median over starts decides, because the best of many
rates at one start is often a lucky trajectory. Each target has its own best
rate, so no method is shown at a rate that suits another target better.
"""

from collections.abc import Callable
import math
import statistics

import jax.numpy as jnp

from benchmarks.methods import running
from benchmarks.methods import targets

POINTS_PER_DECADE = 4
_MOST_RUNS = 48
_CANDIDATES = 3
Grid = dict[int, running.Run]


def rate_of(k: int) -> float:
  """The k-th rate of the grid."""
  return 10.0 ** (k / POINTS_PER_DECADE)


def first_guess(problem: running.Problem, base: str) -> int:
  """Where the search starts: a whole decade.

  For methods whose step is a multiple of the gradient, the reciprocal of the
  curvature along it; for Adam, whose step has the size of its rate, 0.01.
  """
  if base == "adam":
    return -2 * POINTS_PER_DECADE
  x = problem.start(0)
  _, gradient = problem.value_and_grad(x)
  norm = float(jnp.linalg.norm(gradient))
  length = 1e-3 * (1e-2 + float(jnp.linalg.norm(x)))
  _, moved = problem.value_and_grad(x - gradient * (length / norm))
  curvature = float(jnp.linalg.norm(moved - gradient)) / length
  if not (math.isfinite(curvature) and curvature > 0):
    curvature = 1.0
  return POINTS_PER_DECADE * round(-math.log10(curvature))


def _key(runs: list[running.Run], bests: list[float], tau: float):
  """What makes one rate better than another: fewer gradients, then lower.

  Both are medians over the starts that were run.
  """
  counts, lowest = [], []
  for run, best in zip(runs, bests, strict=True):
    target = targets.level(run.losses[0], best, tau)
    counts.append(targets.evaluations(run.losses, target))
    lowest.append(targets.lowest(run.losses))
  return statistics.median(counts), statistics.median(lowest)


def ranked(
  runs: dict[int, list[running.Run]], bests: list[float], tau: float
) -> list[int]:
  """Indices of rates from best to worst; of equals, the smaller rate first."""
  return sorted(runs, key=lambda k: (*_key(runs[k], bests, tau), k))


def best_k(grid: Grid, best: float, tau: float) -> int:
  """The best rate's index for one target at the first start."""
  return ranked({k: [run] for k, run in grid.items()}, [best], tau)[0]


def candidates(grid: Grid, best: float) -> list[int]:
  """The rates that are worth running from the other starts."""
  runs = {k: [run] for k, run in grid.items()}
  found = [ranked(runs, [best], tau)[:_CANDIDATES] for tau in targets.TAUS]
  return sorted(set().union(*found))


def _missing(grid: Grid, k: int, spacing: int) -> set[int]:
  return {k - spacing, k + spacing} - grid.keys()


def search(
  evaluate: Callable[[int], running.Run],
  guess: int,
  best: float,
) -> Grid:
  """Runs the grid until the best rate of every target is inside it.

  Args:
    evaluate: the run at a rate's index.
    guess: the index to start from, a whole decade.
    best: the lowest loss known so far, for the targets.

  Returns:
    The runs by index.
  """
  decade = POINTS_PER_DECADE
  grid = {guess + decade * i: None for i in range(-2, 3)}
  grid = {k: evaluate(k) for k in grid}
  for spacing in (decade, decade // 2, decade // 4):
    while len(grid) < _MOST_RUNS:
      wanted = set()
      for tau in targets.TAUS:
        wanted |= _missing(grid, best_k(grid, best, tau), spacing)
      if not wanted:
        break
      grid |= {k: evaluate(k) for k in sorted(wanted)}
  return grid
