"""Cells of both stages: one call of a program each, kept on disk."""

import functools
import os
import pathlib
import traceback

import numpy as np

from benchmarks.noise import plan
from benchmarks.noise import running
from benchmarks.noise import screening
from benchmarks.noise import tasks
from benchmarks.savings import cell_files

SCREEN, REST, BEST = "screen", "rest", "best"
_FULL = 1.0


def label(name: str, size: int, base: str) -> str:
  """A setting as the name of a folder."""
  return f"{name}-{size}-{base}"


def parts(setting: str) -> tuple[str, int, str]:
  """Task, batch size and base."""
  name, size, base = setting.split("-")
  return name, int(size), base


def _listed(losses: dict[str, np.ndarray]) -> dict[str, list]:
  """Numbers for JSON; null where a run diverged."""
  clean = lambda x: float(f"{x:.6g}") if np.isfinite(x) else None  # noqa: E731
  return {
    row: [[clean(x) for x in at_rate] for at_rate in found]
    for row, found in losses.items()
  }


def mean(losses: list) -> float:
  """Over seeds; infinite if one diverged."""
  return float(np.mean([np.inf if x is None else x for x in losses]))


class Bench:
  """The cells of one setting."""

  def __init__(self, folder: pathlib.Path, setting: str):
    self.setting = setting
    self._folder = folder
    self._name, self._size, self._base = parts(setting)
    self._task = tasks.get(self._name)

  def path(self, stage: str) -> pathlib.Path:
    """The file of one cell."""
    return self._folder / self.setting / f"{stage}.json.gz"

  def load(self, stage: str) -> dict | None:
    """What a cell holds, if it is there."""
    file = self.path(stage)
    return cell_files.load(file) if file.exists() else None

  def stages(self) -> list[str]:
    """The cells of the second stage, those that others need first.

    Rates are chosen under the first schedule. The library runs where there is
    least noise, which is where it might wake up.
    """
    tuned, *others = plan.SCHEDULES
    tries = [f"{tuned}.{_FULL}.{k}" for k in range(len(plan.NEIGHBOURS))]
    short = [f"{tuned}.{x}.{BEST}" for x in plan.LENGTHS if x != _FULL]
    more = [f"{s}.{x}.{BEST}" for s in others for x in plan.LENGTHS]
    rest = [REST] if self._size == max(self._task.sizes) else []
    return [*tries, *short, *more, *rest]

  def missing(self, stages: list[str]) -> list[str]:
    """Those without a file."""
    return [s for s in stages if not self.path(s).exists()]

  def _steps(self, length: float) -> int:
    return round(length * self._task.steps)

  def screen(self) -> None:
    """The first stage, and the base once more in a shorter run."""
    rates = {
      m: [f * plan.centre(self._task, self._base, m) for f in plan.RATES]
      for m in plan.screened()
    }
    program = functools.partial(
      running.program, self._name, self._size, self._base
    )
    schedule, seeds = plan.SCREENED_SCHEDULE, plan.SCREENED_SEEDS
    found = program(plan.screened()).losses(
      rates, schedule, seeds, self._steps(_FULL)
    )
    only = (plan.BASE,)
    short = program(only).losses(
      {m: rates[m] for m in only},
      schedule,
      seeds,
      self._steps(plan.SCREENED_SHORT),
    )
    content = {
      "rates": rates,
      "losses": _listed(found),
      "short": _listed(short)[plan.BASE],
    }
    cell_files.save(self.path(SCREEN), content)

  def rest(self) -> None:
    """The library beside its base, at the best rate of the first stage."""
    methods = plan.BASE, plan.LIBRARY
    rate = screening.best_rate(self.load(SCREEN), plan.BASE)
    found = running.program(self._name, self._size, self._base, methods).losses(
      {method: [rate] for method in methods},
      plan.SCREENED_SCHEDULE,
      plan.SEEDS,
      self._steps(_FULL),
    )
    losses = {row: x[0] for row, x in _listed(found).items()}
    cell_files.save(self.path(REST), {"rate": rate, "losses": losses})

  def final(self, stage: str, methods: tuple[str, ...]) -> None:
    """One schedule, length and factor of the rates in the second stage."""
    schedule, rest = stage.split(".", 1)
    length, k = rest.rsplit(".", 1)
    rates = {m: self.rate(m, k) for m in methods}
    program = running.program(self._name, self._size, self._base, methods)
    found = program.losses(
      {m: [r] for m, r in rates.items()},
      schedule,
      plan.SEEDS,
      self._steps(float(length)),
    )
    losses = {row: x[0] for row, x in _listed(found).items()}
    cell_files.save(self.path(stage), {"rates": rates, "losses": losses})

  def rate(self, method: str, k: str) -> float:
    """The rate of a method: around the first stage's best, or the best there."""
    if k != BEST:
      best = screening.best_rate(self.load(SCREEN), method)
      return best * plan.NEIGHBOURS[int(k)]
    cells = [
      self.load(f"{plan.SCHEDULES[0]}.{_FULL}.{i}")
      for i in range(len(plan.NEIGHBOURS))
    ]
    return min(cells, key=lambda c: final_loss(c, method))["rates"][method]


def final_loss(cell: dict, method: str) -> float:
  """What decides between rates in the second stage."""
  return min(mean(cell["losses"][row]) for row in plan.tuned_by(method))


def work(
  folder: pathlib.Path,
  finalists: list[str] | None,
  task: str,
  parent: int | None = None,
) -> str | None:
  """Runs what is missing of a setting; returns a traceback if it fails.

  The first stage without finalists, and the second with them.
  """
  bench = Bench(folder, task)
  stages = [SCREEN] if finalists is None else bench.stages()
  stage = None
  try:
    for stage in bench.missing(stages):
      if parent is not None and os.getppid() != parent:
        return None
      if finalists is None:
        bench.screen()
      elif stage == REST:
        bench.rest()
      else:
        bench.final(stage, tuple(finalists))
  except Exception:
    return f"{task}, {stage}:\n{traceback.format_exc()}"
  return None
