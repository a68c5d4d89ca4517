"""One run is one cell: an optimizer at a rate, from one start of a task.

Targets, best rates and what the tuned comparison has counted are copied from
its summary once per task, into the task's first cell, and stay what they were:
every cell of a task is measured by the same targets, also after the summary
was made anew. To measure by new targets, begin in an empty folder.
"""

import math
import os
import pathlib
import time
import traceback

from benchmarks.methods import opponents
from benchmarks.methods import running
from benchmarks.methods import searches
from benchmarks.methods import targets
from benchmarks.rates import plan
from benchmarks.savings import cell_files

TARGETS = "targets"
SEARCH = "search"
SEEDS = (0, 1, 2)
Cell = tuple[str, str, int]


def known(summary: dict, task: str) -> dict:
  """What the tuned comparison says of a task.

  Raises:
    KeyError: if the task was not run there.
  """
  if task not in summary["tasks"]:
    raise KeyError(
      f"{task!r} has no targets and no best rate yet: `python -m benchmarks run"
      f" --tasks {task}` finds them."
    )
  found = summary["tasks"][task]
  fields = ("family", "role", "budget", "size", "start", "best", "taus")
  shown = {k: found[k] for k in fields}
  tried = found.get("tried", {})
  shown["tried"] = {b: tried[b] for b in opponents.BASES if b in tried}
  wanted = {*opponents.BASES, *searches.METHODS}
  rows = [
    {k: r[k] for k in ("method", "tau", "rate", "evaluations", "forward_only")}
    for r in found["rows"]
    if r["mode"] == "tuned" and r["method"] in wanted
  ]
  return shown | {"rows": rows}


def best_rate(known: dict, base: str) -> float | None:
  """A base's best rate for the middle target, or for the nearest resolved."""
  wanted = [r for r in known["rows"] if r["method"] == base]
  middle = math.log10(targets.TAUS[1])
  nearest = lambda row: abs(math.log10(row["tau"]) - middle)  # noqa: E731
  return min(wanted, key=nearest)["rate"] if wanted else None


def level(known: dict, seed: int, tau: float) -> float:
  """The loss to be reached from a start."""
  return targets.level(known["start"][seed], known["best"][seed], tau)


class Bench:
  """The cells of one task."""

  def __init__(
    self,
    folder: pathlib.Path,
    task: str,
    settings: list[plan.Setting],
    seeds: tuple[int, ...],
  ):
    self.folder, self.task, self.seeds = folder, task, seeds
    self.settings = {self._stage(s): s for s in settings}

  @staticmethod
  def _stage(setting: plan.Setting) -> tuple[str, str]:
    return setting.method, setting.label.replace("/", "-")

  def path(self, method: str, stage: str, seed: int) -> pathlib.Path:
    """The file of one cell."""
    return cell_files.path(self.folder, self.task, method, f"{stage}.{seed}")

  def known_path(self) -> pathlib.Path:
    """The file that everything else is measured by."""
    return cell_files.path(self.folder, self.task, TARGETS, "summary")

  def remember(self, summary: dict) -> dict:
    """What the tuned comparison says, or said when the folder was begun."""
    file = self.known_path()
    if not file.exists():
      cell_files.save(file, known(summary, self.task))
    return cell_files.load(file)

  def planned(self, known: dict) -> list[Cell]:
    """All cells; searches that the summary holds are not run again.

    None of a task without a target that float32 resolves.
    """
    if not known["taus"]:
      return []
    listed = {row["method"] for row in known["rows"]}
    new = [m for m in searches.METHODS if m not in listed]
    return [
      *((method, SEARCH, seed) for method in new for seed in self.seeds),
      *(
        (method, label, seed)
        for seed in self.seeds
        for (method, label), setting in self.settings.items()
        if best_rate(known, setting.base) is not None
      ),
    ]

  def missing(self, known: dict) -> list[Cell]:
    """The planned cells without a file."""
    return [c for c in self.planned(known) if not self.path(*c).exists()]

  def run_cell(self, cell: Cell, known: dict) -> None:
    """Runs one cell and writes it."""
    method, stage, seed = cell
    started = time.perf_counter()
    problem = running.problem(self.task)
    if method in searches.METHODS:
      fits = searches.applies(method, problem)
      run = searches.METHODS[method](problem, seed) if fits else None
    else:
      setting = self.settings[method, stage]
      rate = setting.rate(best_rate(known, setting.base))
      stop_at = level(known, seed, min(known["taus"], default=1.0))
      run = running.run(problem, method, rate, seed, stop_at)
    content = None
    if run is not None:
      losses = [cell_files.number(x) for x in run.losses]
      content = run._asdict() | {"losses": losses}
    seconds = round(time.perf_counter() - started, 2)
    cell_files.save(self.path(*cell), {"run": content, "seconds": seconds})


def work(
  folder: pathlib.Path,
  task: str,
  settings: list[plan.Setting],
  seeds: tuple[int, ...],
  parent: int | None = None,
) -> str | None:
  """Runs every missing cell of a task; returns a traceback if one fails.

  A worker whose parent was killed stops before its next cell.
  """
  bench = Bench(folder, task, settings, seeds)
  found = cell_files.load(bench.known_path())
  try:
    for cell in bench.missing(found):
      if parent is not None and os.getppid() != parent:
        return None
      bench.run_cell(cell, found)
  except Exception:
    return f"{task}, {cell}:\n{traceback.format_exc()}"
  return None
