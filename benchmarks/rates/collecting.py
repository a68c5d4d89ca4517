"""From cells to results/rates.json: how many true gradients every run needed."""

import math
import pathlib
import statistics

from benchmarks.methods import opponents
from benchmarks.methods import searches
from benchmarks.methods import targets
from benchmarks.rates import cells
from benchmarks.rates import plan
from benchmarks.savings import cell_files

# In place of a rate's label, for a base at the best rate of each target.
TUNED = "tuned"
# And for a method that searches its own step, as in the name of its cell.
SEARCH = cells.SEARCH


def collect(folder: pathlib.Path) -> dict:
  """Counts of every task in a folder of cells, by target, method and rate.

  A list of counts is over the starts that were run, in order; a miss is null.
  """
  tasks = {}
  for task_folder in sorted(p for p in folder.glob("*") if p.is_dir()):
    name = task_folder.name.replace("__", "/")
    bench = cells.Bench(folder, name, plan.settings(), cells.SEEDS)
    if bench.known_path().exists():
      tasks[name] = _task(bench)
  return tasks


def _task(bench: cells.Bench) -> dict:
  known = cell_files.load(bench.known_path())
  counts = {str(tau): _from_summary(known, tau) for tau in known["taus"]}
  forward_only = {
    row["method"]: row["forward_only"]
    for row in known["rows"]
    if row["method"] in searches.METHODS
  }
  steps: dict[str, dict[str, float]] = {}
  below = 0.0
  for method, label, runs in _runs(bench):
    for tau in known["taus"]:
      by_method = counts[str(tau)].setdefault(method, {})
      by_method[label] = [
        _count(run["losses"], cells.level(known, seed, tau))
        for seed, run in enumerate(runs)
      ]
    below = max(below, *(_below(known, i, r) for i, r in enumerate(runs)))
    if label == SEARCH:
      forward_only[method] = max(run["forward_only"] for run in runs)
    else:
      steps.setdefault(method, {})[label] = round(
        statistics.fmean(1 + r["predicted"] / len(r["losses"]) for r in runs), 2
      )
  rates = {base: cells.best_rate(known, base) for base in opponents.BASES}
  return {
    **{
      k: known[k] for k in ("family", "role", "budget", "size", "taus", "tried")
    },
    "best_rates": rates,
    "counts": counts,
    "steps": steps,
    "forward_only": forward_only,
    "below": float(f"{below:.3g}"),
  }


def _below(known: dict, seed: int, run: dict) -> float:
  """By what share of the gap a run went below the best loss known."""
  best = known["best"][seed]
  gap = known["start"][seed] - best
  finite = [x for x in run["losses"] if x is not None]
  return (best - min(finite)) / gap if finite and gap > 0 else 0.0


def _from_summary(known: dict, tau: float) -> dict[str, dict[str, list]]:
  return {
    row["method"]: {
      TUNED if row["method"] in opponents.BASES else SEARCH: row["evaluations"]
    }
    for row in known["rows"]
    if row["tau"] == tau
  }


def _runs(bench: cells.Bench):
  """Method, label and the runs from the first starts that all have a cell."""
  stages = [(m, SEARCH, SEARCH) for m in searches.METHODS]
  stages += [
    (method, stage, setting.label)
    for (method, stage), setting in bench.settings.items()
  ]
  for method, stage, label in stages:
    runs = []
    for seed in cells.SEEDS:
      file = bench.path(method, stage, seed)
      run = cell_files.load(file)["run"] if file.exists() else None
      if run is None:
        break
      runs.append(run)
    if runs:
      yield method, label, runs


def _count(losses: list[float | None], level: float) -> float | None:
  finite = [math.inf if x is None else x for x in losses]
  found = targets.evaluations(finite, level)
  return found if math.isfinite(found) else None
