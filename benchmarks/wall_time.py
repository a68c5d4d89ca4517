"""Wall time to the target, where a gradient costs more than a step.

python -m benchmarks.wall_time

Takes the tuned rates from the summary and runs base and prediction in turns in
one process, compiled beforehand. Both loops are the suite's own, so a cheap
loss shows what prediction costs and an expensive one what it saves.

The tasks are small, and a gradient of theirs costs a few dozen updates by the
optimizer at most. So they run once more with every gradient evaluated as many times
over as make it cost at least `--cost` updates.
"""

import argparse
import itertools
import json
import math
import pathlib
import statistics
import time

import jax
import numpy as np

from benchmarks import analysis
from benchmarks import environment
from benchmarks import opponents
from benchmarks import running
from benchmarks import targets
from benchmarks import timing

_RESULTS = pathlib.Path(__file__).parent / "results"
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


def _contestants(task: dict, base: str) -> dict[str, float] | None:
  """Method -> its own tuned rate, if the first start reached the target."""
  rates = {}
  for method in (base, f"{base}+predict"):
    row = analysis.row(task, method, "tuned", _TAU)
    if row is None or row["evaluations"][0] is None:
      return None
    rates[method] = row["rate"]
  return rates


def measure(
  name: str, task: dict, base: str, rounds: int, costs: tuple[float, ...]
) -> list[dict]:
  """Lines of the table, none if either misses the target.

  Args:
    name: of the task.
    task: its part of the summary.
    base: name of the optimizer.
    rounds: runs of either.
    costs: of a gradient, in updates, at least; a line each.
  """
  rates = _contestants(task, base)
  if rates is None:
    return []
  problem = running.problem(name)
  prices = _costs(problem, base, rates[base])
  rows = []
  for cost in costs:
    ratio = prices["update_s"] / prices["gradient_s"]
    times = max(1, math.ceil(cost * ratio))
    timed = _timed(_Dear(problem, times), task, rates, rounds)
    rows.append({"task": name, "base": base, "times": times, **timed, **prices})
  return rows


def _timed(problem, task: dict, rates: dict[str, float], rounds: int) -> dict:
  """Seconds of either to the target, in turns."""
  level = targets.level(task["start"][0], task["best"][0], _TAU)
  first = {m: _clocked(problem, m, r, level)[0] for m, r in rates.items()}
  seconds, runs = {m: [] for m in rates}, {}
  for _ in range(rounds):
    for method, rate in rates.items():
      spent, runs[method] = _clocked(problem, method, rate, level)
      seconds[method].append(spent)
  plain, ours = rates
  medians = {m: statistics.median(s) for m, s in seconds.items()}
  return {
    "base_s": medians[plain],
    "predict_s": medians[ours],
    "base_gradients": len(runs[plain].losses),
    "predict_gradients": len(runs[ours].losses),
    "compile_base_s": first[plain] - medians[plain],
    "compile_predict_s": first[ours] - medians[ours],
  }


def main(argv: list[str] | None = None) -> None:
  """Measures the listed tasks and writes one JSON file for this device."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.wall_time")
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
