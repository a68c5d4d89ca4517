"""The unit of work that survives a kill: one method on one task.

A task is worked on in two stages, because the rates to show depend on the best
loss known from all methods. Stage `grid` runs the rates at the first start and
stage `starts` the best of them at every start. Each cell is one file, written
at once and in one move; what is there is not run again.
"""

import math
import pathlib

from benchmarks.methods import line_search
from benchmarks.methods import opponents
from benchmarks.methods import running
from benchmarks.methods import searches
from benchmarks.methods import targets
from benchmarks.methods import tuning
from benchmarks.savings import cell_files

SEEDS = (0, 1, 2)
REFERENCE = "reference"


def with_bases(methods: list[str]) -> list[str]:
  """The methods and the bases they are compared with, in table order."""
  wanted = set(methods)
  known = [opponents.METHODS[m] for m in methods if m in opponents.METHODS]
  wanted |= {method.base for method in known}
  return [m for m in opponents.names() if m in wanted]


def _is_tuned(method: str) -> bool:
  known = opponents.METHODS.get(method)
  return known is not None and known.rate_factor is None


def _run_to_json(run: running.Run, k: int | None = None) -> dict:
  losses = [cell_files.number(x) for x in run.losses]
  return run._asdict() | {"losses": losses, "k": k}


def _run_from_json(content: dict) -> running.Run:
  fields = {name: content[name] for name in running.Run._fields}
  losses = [math.inf if x is None else x for x in fields["losses"]]
  return running.Run(**fields | {"losses": losses})


def runs_of(cell: dict) -> list[tuple[int | None, running.Run]]:
  """The runs of a cell with their rate's index."""
  return [(r["k"], _run_from_json(r)) for r in cell["runs"]]


class Bench:
  """Runs and reads the cells of one task."""

  def __init__(self, folder: pathlib.Path, task: str, methods: list[str]):
    self.folder, self.task, self.methods = folder, task, methods
    self._ends: dict[int, tuple[float, float]] | None = None

  def planned(self) -> list[tuple[str, str]]:
    """All cells in the order in which they need each other."""
    tuned = [m for m in self.methods if _is_tuned(m)]
    return [
      (REFERENCE, "starts"),
      *((m, "grid") for m in tuned),
      *((m, "starts") for m in self.methods),
    ]

  def run_cell(self, method: str, stage: str) -> None:
    """Runs one cell unless it is there."""
    file = cell_files.path(self.folder, self.task, method, stage)
    if file.exists():
      return
    problem = running.problem(self.task)
    self._ends = None
    if stage == "grid":
      content = self._grid(problem, method)
    elif method == REFERENCE:
      runs = [line_search.reference(problem, seed) for seed in SEEDS]
      content = {"runs": [_run_to_json(_shortened(r)) for r in runs]}
    elif method in searches.METHODS:
      search, fits = searches.METHODS[method], searches.applies(method, problem)
      runs = [search(problem, seed) for seed in SEEDS] if fits else []
      content = {"runs": [_run_to_json(r) for r in runs]}
    else:
      content = self._starts(problem, method)
    header = {"task": self.task, "method": method, "stage": stage}
    task = problem.task._asdict()
    header |= {k: task[k] for k in ("family", "role", "budget")}
    cell_files.save(file, header | {"size": problem.size} | content)

  def _cell(self, method: str, stage: str) -> dict:
    file = cell_files.path(self.folder, self.task, method, stage)
    return cell_files.load(file)

  def _grid_of(self, method: str) -> tuning.Grid:
    return dict(runs_of(self._cell(method, "grid")))

  def _known(self) -> dict[int, tuple[float, float]]:
    """First and lowest loss of each start, in the reference and all grids."""
    if self._ends is None:
      cells = [(REFERENCE, "starts"), *((m, "grid") for m in self.methods)]
      files = [cell_files.path(self.folder, self.task, *c) for c in cells]
      found = [cell_files.load(f) for f in files if f.exists()]
      self._ends = {}
      for _, run in (pair for cell in found for pair in runs_of(cell)):
        start, best = self._ends.get(run.seed, (run.losses[0], math.inf))
        lowest = min(best, targets.lowest(run.losses))
        self._ends[run.seed] = start, lowest
    return self._ends

  def best_known(self, seed: int = 0) -> float:
    """The lowest loss known from a start when this cell began."""
    return self._known()[seed][1]

  def _run(self, problem, method: str, rate: float, seed: int) -> running.Run:
    start, best = self._known()[seed]
    stop_at = targets.level(start, best, targets.DONE)
    return running.run(problem, method, rate, seed, stop_at)

  def _grid(self, problem, method: str) -> dict:
    best = self.best_known()
    base = opponents.METHODS[method].base
    guess = tuning.first_guess(problem, base)
    if method != base:
      step = tuning.POINTS_PER_DECADE
      middle = tuning.best_k(self._grid_of(base), best, targets.TAUS[1])
      guess = step * round(middle / step)
    grid = tuning.search(
      lambda k: self._run(problem, method, tuning.rate_of(k), 0),
      guess,
      best,
    )
    return {"runs": [_run_to_json(grid[k], k) for k in sorted(grid)]}

  def _starts(self, problem, name: str) -> dict:
    """The candidate rates, or those given by the base, at every start."""
    method = opponents.METHODS[name]
    factor, chosen, runs = method.rate_factor or 1.0, {}, {}
    grid = self._grid_of(name) if _is_tuned(name) else {}

    def at_all_starts(k):
      rate = factor * tuning.rate_of(k)
      runs[k] = [
        grid[k]
        if k in grid and seed == 0
        else self._run(problem, name, rate, seed)
        for seed in SEEDS
      ]
      return runs[k]

    if grid:
      found = tuning.candidates(grid, self.best_known())
      chosen["tuned"] = self._choose({k: at_all_starts(k) for k in found})
    if method.has_drop_in or method.rate_factor is not None:
      given = self._cell(method.base, "starts")["chosen"]["tuned"]
      for k in {*given.values()} - runs.keys():
        at_all_starts(k)
      chosen["drop_in"] = given
    listed = [_run_to_json(r, k) for k in sorted(runs) for r in runs[k]]
    return {"chosen": chosen, "runs": listed}

  def _choose(self, tried: dict[int, list[running.Run]]) -> dict[str, int]:
    """The best of the candidates for each target, by medians over starts."""
    bests = []
    for i, seed in enumerate(SEEDS):
      own = [targets.lowest(runs[i].losses) for runs in tried.values()]
      bests.append(min(self.best_known(seed), *own))
    return {
      str(tau): tuning.ranked(tried, bests, tau)[0] for tau in targets.TAUS
    }


def _shortened(run: running.Run) -> running.Run:
  """The start and the best: the reference's path is nobody's result."""
  return run._replace(losses=[run.losses[0], targets.lowest(run.losses)])
