"""Wall time to the target, where a gradient costs more than a step.

python -m benchmarks.cost.wall_time

Takes the base's tuned rate from the summary and runs the base, the same accelerated,
and SciPy's L-BFGS-B in turns in one process, compiled beforehand. All loops are the
suite's own, so a cheap loss shows what prediction costs and an expensive one what it
saves.

The tasks are small, and a gradient of theirs costs a few dozen updates by the
optimizer at most. So they run once more with every gradient evaluated as many times
over as make it cost at least `--cost` updates.
"""

import argparse
import copy
import itertools
import json
import math
import pathlib
import statistics
import time

import jax
import numpy as np

from benchmarks import environment
from benchmarks.cost import timing
from benchmarks.methods import line_search
from benchmarks.methods import opponents
from benchmarks.methods import running
from benchmarks.methods import targets
from benchmarks.savings import analysis

_RESULTS = pathlib.Path(__file__).parents[1] / "results"
_TASKS = (
  "digits_convnet",
  "ode_neural",
  "siren_image",
  "darcy_permeability",
  "wave_speed",
  "tsne_digits",
)
_TAU = targets.TAUS[1]
# Calls of a gradient and of an update that are timed in turns.
_CALLS = 50


class _Dear:
  """A problem whose gradient is evaluated some times over, for its price."""

  def __init__(self, problem, times: int):
    self.task, self.start = problem.task, problem.start
    self._problem, self._times = problem, times

  def value_and_grad(self, x):
    """Once more as often as it takes; the same value and gradient."""
    for _ in range(self._times):
      found = jax.block_until_ready(self._problem.value_and_grad(x))
    return found


def _clocked(problem, method: str, rate: float, level: float):
  """Seconds of one run to a loss, and its ledger."""
  begun = time.perf_counter()
  run = running.run(problem, method, rate, 0, level)
  return time.perf_counter() - begun, run


def _costs(problem, method: str, rate: float) -> dict[str, float]:
  """Seconds of a gradient and of an update by the optimizer, one call each."""
  x = problem.start(0)
  state, step = opponents.init(method)(x), opponents.step(method)
  _, gradient = problem.value_and_grad(x)
  calls = {
    "gradient_s": lambda: problem.value_and_grad(x),
    "update_s": lambda: step(np.float32(rate), x, state, gradient),
  }
  seconds = timing.interleaved(calls, _CALLS)
  return {name: statistics.median(found) for name, found in seconds.items()}


def _tuned_rate(task: dict, base: str) -> float | None:
  """The base's own best, if the first start reached the target with it."""
  row = analysis.row(task, base, "tuned", _TAU)
  if row is None or row["evaluations"][0] is None:
    return None
  return row["rate"]


def measure(
  name: str, task: dict, base: str, rounds: int, costs: tuple[float, ...]
) -> list[dict]:
  """Lines of the table, none if the base misses the target.

  Args:
    name: of the task.
    task: its part of the summary.
    base: name of the optimizer.
    rounds: runs of either.
    costs: of a gradient, in updates, at least; a line each.
  """
  rate = _tuned_rate(task, base)
  if rate is None:
    return []
  problem = running.problem(name)
  prices = _costs(problem, base, rate)
  rows = []
  for cost in costs:
    ratio = prices["update_s"] / prices["gradient_s"]
    times = max(1, math.ceil(cost * ratio))
    timed = _timed(_Dear(problem, times), task, base, rate, rounds)
    rows.append({"task": name, "base": base, "times": times, **timed, **prices})
  return rows


def _timed(problem, task: dict, base: str, rate: float, rounds: int) -> dict:
  """Seconds of each to the target, in turns; None for what misses it."""
  level = targets.level(task["start"][0], task["best"][0], _TAU)
  ours = f"{base}+accelerate"

  def clock(method):
    return lambda: _clocked(problem, method, rate, level)

  found = line_search.scipy_lbfgs(problem, 0).losses
  needed = next((i for i, x in enumerate(found, 1) if x <= level), None)
  calls = {"base": clock(base), "predict": clock(ours)}
  if needed is not None:
    calls["lbfgs"] = lambda: _clocked_lbfgs(problem, needed)
  first = {name: call() for name, call in calls.items()}
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  for _ in range(rounds):
    for name, call in calls.items():
      seconds[name].append(call()[0])
  row: dict = {"rate": rate, "lbfgs_s": None, "lbfgs_gradients": None}
  for name, (begun, run) in first.items():
    median = statistics.median(seconds[name])
    is_there = min(run.losses) <= level
    row[f"{name}_s"] = median if is_there else None
    row[f"{name}_gradients"] = len(run.losses) if is_there else None
    row[f"compile_{name}_s"] = begun - median
  return row


def _clocked_lbfgs(problem, evaluations: int):
  """Seconds of so many evaluations by SciPy's L-BFGS-B, and its ledger."""
  shorter = copy.copy(problem)
  shorter.task = problem.task._replace(budget=evaluations)
  begun = time.perf_counter()
  run = line_search.scipy_lbfgs(shorter, 0)
  return time.perf_counter() - begun, run


def main(argv: list[str] | None = None) -> None:
  """Measures the listed tasks and writes one JSON file for this device."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.cost.wall_time")
  parser.add_argument("--tasks", nargs="+", default=_TASKS)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--cost", type=float, default=200.0)
  parser.add_argument("--results", type=pathlib.Path, default=_RESULTS)
  arguments = parser.parse_args(argv)
  folder = arguments.results
  summary = json.loads((folder / "summary.json").read_text())
  made, rows = environment.describe(), []
  for name, base in itertools.product(arguments.tasks, opponents.BASES):
    task, costs = summary["tasks"][name], (0.0, arguments.cost)
    found = measure(name, task, base, arguments.rounds, costs)
    rows += found
    for row in found:
      print(row, flush=True)
  file = folder / f"wall_time_{environment.slug(made)}.json"
  file.write_text(json.dumps({"made": made, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
  main()
