"""Does the report keep its word? Expectations against what then happened.

`python -m benchmarks.predictability` measures, with fifty true gradients of
each reporting task's tuned optimizer, what `optax_predict.predictability`
expects of prediction, then runs with prediction and counts. It writes
results/predictability.json, and from that the table in docs/predictability.md
and its picture; `--page` writes only those two.
"""

import argparse
import json
import math
import pathlib
import re
import statistics
import sys
from typing import Any

import numpy as np
import tqdm

from benchmarks import environment
from benchmarks import markdown
from benchmarks import tasks
from benchmarks.methods import opponents
from benchmarks.methods import running
from benchmarks.savings import analysis
import optax_predict
from optax_predict import forecasters
from optax_predict import predictability

STEPS = 50
_HERE = pathlib.Path(__file__).parent
RESULTS = _HERE / "results" / "predictability.json"
PAGE = _HERE.parent / "docs" / "predictability.md"
_FIGURE = "predictability.png"
_SPAN = re.compile(r"(<!--measured-->\n)(.*?)(<!--/measured-->)", re.S)


def tuned_rate(task: dict, base: str) -> float | None:
  """The rate at which a base does best, for the middle target if it has one."""
  for tau in sorted(task["taus"], key=lambda tau: abs(math.log10(tau) + 3)):
    row = analysis.row(task, base, "tuned", tau)
    if row is not None:
      return row["rate"]
  return None


def _alone(problem: running.Problem, base: str, rate: float, losses: list):
  """The base's run, step by step; the losses are filled in."""
  step, x = opponents.step(base), problem.start(0)
  state = opponents.init(base)(x)
  for _ in range(STEPS):
    loss, gradient = problem.value_and_grad(x)
    losses.append(float(loss))
    yield x, gradient
    x, state = step(np.float32(rate), x, state, gradient)


def cell(name: str, base: str, rate: float, named: dict[str, Any]) -> dict:
  """One task and optimizer: what was expected and what happened.

  Args:
    name: of the task.
    base: of the optimizer.
    rate: its learning rate, in either run.
    named: the forecaster that the run with prediction uses, by name.

  Returns:
    A row of the JSON: `saved` is the share of the base's true gradients that
    prediction did not need to come to the base's lowest loss, 0 or less when
    it needed as many or did not get there.
  """
  problem, losses = running.problem(name), []
  found = predictability.backtest(
    _alone(problem, base, rate, losses), forecasters=named
  )
  expected, target = found.expect(), min(losses)
  method = f"{base}+predict"
  step, x = opponents.step(method), problem.start(0)
  state, needed = opponents.init(method)(x), math.inf
  for i in range(STEPS):
    loss, gradient = problem.value_and_grad(x)
    if float(loss) <= target:
      needed = i + 1
      break
    x, state = step(np.float32(rate), x, state, gradient)
  alone = 1 + int(np.argmin(losses))
  return {
    "task": name,
    "base": base,
    "rate": rate,
    "horizon": round(expected.horizon, 2),
    "expected": round(expected.saving, 3),
    "saved": round(1 - min(needed, STEPS) / alone, 3),
    "predicted": round(
      float(optax_predict.get_stats(state).prediction_ratio), 3
    ),
  }


def measure(patterns: list[str]) -> dict:
  """All cells of the tasks in summary.json, with a progress bar."""
  summary = json.loads((RESULTS.parent / "summary.json").read_text())
  wanted = [
    (name, base, rate)
    for name in tasks.names("reporting")
    if name in summary["tasks"] and (not patterns or name in patterns)
    for base in opponents.BASES
    if (rate := tuned_rate(summary["tasks"][name], base)) is not None
  ]
  named = {"secant": forecasters.secant()}
  bar = tqdm.tqdm(wanted)
  return {
    "made": environment.describe(),
    "steps": STEPS,
    "cells": [cell(*one, named) for one in bar],
  }


def rank_correlation(cells: list[dict]) -> float:
  """Spearman's: 1 when more expected always was more saved."""
  ranks = []
  for key in ("expected", "saved"):
    values = np.array([c[key] for c in cells])
    # Equal values share the mean of their ranks.
    below = (values[:, None] > values[None, :]).sum(axis=1)
    equal = (values[:, None] == values[None, :]).sum(axis=1)
    ranks.append(below + (equal - 1) / 2)
  return float(np.corrcoef(*ranks)[0, 1])


def section(found: dict) -> str:
  """The measured part of the page, from the JSON alone."""
  cells, steps = found["cells"], found["steps"]
  off = [abs(c["expected"] - c["saved"]) for c in cells]
  rows = [
    [c["task"], c["base"], f"{c['horizon']:.1f}"]
    + [f"{c[key]:.0%}" for key in ("expected", "saved", "predicted")]
    for c in sorted(cells, key=lambda c: -c["expected"])
  ]
  head = ["task", "optimizer", "steps ahead", "expected", "saved", "predicted"]
  names = {c["task"] for c in cells}
  return (
    f"![Expected against saved]({_FIGURE})\n\n"
    f"{len(cells)} runs on {len(names)} reporting tasks, {steps} true gradients"
    " each: the rank correlation between the saving that was expected and the"
    f" one that was had is {rank_correlation(cells):.2f}; they differ by"
    f" {100 * statistics.median(off):.0f} percentage points in the median, by"
    f" {100 * max(off):.0f} at most.\n\n"
    f"{markdown.table(head, rows)}\n"
    "*Saved*: true gradients not needed to come to the lowest loss that the"
    f" optimizer alone reached in {steps}; 0 % or less where prediction did not"
    " get there. *Predicted*: share of the steps that needed no true"
    f" gradient.\n\n{_made(found)}"
  )


def _made(found: dict) -> str:
  made = found["made"]
  versions = ", ".join(f"{p} {made['versions'][p]}" for p in ("jax", "optax"))
  return (
    f"Made {made['date']} on {made['device']}, optax_predict"
    f" {made['optax_predict']}; {versions}.\n"
  )


def fill(text: str, found: dict) -> str:
  """The page with its measured part replaced."""
  return _SPAN.sub(lambda m: m[1] + section(found) + m[3], text)


def plot(file: pathlib.Path, found: dict) -> None:
  """A point per run: expected saving across, what was saved upwards."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot as plt

  figure, ax = plt.subplots(figsize=(6.5, 5), layout="constrained")
  for base, marker in zip(opponents.BASES, "os^", strict=True):
    of_base = [c for c in found["cells"] if c["base"] == base]
    ax.plot(
      [100 * c["expected"] for c in of_base],
      [100 * c["saved"] for c in of_base],
      marker,
      alpha=0.7,
      label=base,
    )
  ax.axline((0, 0), slope=1, color="grey", lw=1, label="as expected")
  ax.axhline(0, color="grey", lw=0.5, zorder=0)
  ax.set(
    xlabel="expected by the report (% fewer true gradients)",
    ylabel="saved with prediction (%)",
    xlim=(-3, 100),
  )
  ax.grid(alpha=0.3)
  ax.legend()
  figure.savefig(file, dpi=110)
  plt.close(figure)


def main(argv: list[str] | None = None) -> int:
  """Measures, unless only the page is asked for, and writes."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.predictability")
  parser.add_argument("--tasks", nargs="+", default=[], help="only these")
  parser.add_argument("--page", action="store_true", help="from the JSON alone")
  arguments = parser.parse_args(argv)
  if not arguments.page:
    found = measure(arguments.tasks)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
  found = json.loads(RESULTS.read_text())
  plot(PAGE.parent / _FIGURE, found)
  PAGE.write_text(fill(PAGE.read_text(), found))
  print(section(found))
  return 0


if __name__ == "__main__":
  sys.exit(main())
