"""What each choice in the defaults is worth: one change at a time.

python -m benchmarks.ablation          # everything, an hour or more
python -m benchmarks.ablation --table  # only the table and the figure
python -m benchmarks.ablation --settings default "memory=*"  # keeps the rest

In closed loop on random problems: how many true gradients until the loss is
within 1e-2 and 1e-3 of the way from the start to the lowest loss that the base
reaches alone with its whole budget.
"""

import argparse
from concurrent import futures
import fnmatch
import json
import multiprocessing
import pathlib
from typing import Any

import tqdm

from benchmarks import environment
from benchmarks.ablation import page
from benchmarks.ablation import runs

_ROOT = pathlib.Path(__file__).parents[2]
RESULTS = _ROOT / "benchmarks" / "results" / "ablation.json"
DOCS = _ROOT / "docs" / "forecasters.md"
FIGURE = _ROOT / "docs" / "memory.png"
# Jobs of a base: each tunes it anew, and the bar moves when one is done.
_PARTS = 6


def _all(settings: list[str], jobs: int) -> dict[str, dict[str, Any]]:
  """Every setting with every base; a base's share of them in each process."""
  parts = [
    (base, settings[i::_PARTS]) for base in runs.BASES for i in range(_PARTS)
  ]
  context = multiprocessing.get_context("spawn")
  found: dict[str, dict[str, Any]] = {b: {} for b in runs.BASES}
  with (
    futures.ProcessPoolExecutor(jobs, context) as pool,
    tqdm.tqdm(total=len(runs.BASES) * len(settings)) as bar,
  ):
    waiting = {
      pool.submit(runs.measure, base, part, runs.SIZE): base
      for base, part in parts
    }
    for future in futures.as_completed(waiting):
      found[waiting[future]] |= future.result()
      bar.update(len(future.result()))
  return {
    base: {setting: cells[setting] for setting in settings}
    for base, cells in found.items()
  }


def _matching(patterns: list[str]) -> list[str]:
  """Settings that a pattern names, or is the name of."""
  found = [
    name
    for name in runs.SETTINGS
    if any(name == p or fnmatch.fnmatch(name, p) for p in patterns)
  ]
  if not found:
    known = ", ".join(runs.SETTINGS)
    raise SystemExit(f"nothing matches {patterns}; there are {known}")
  return found


def _in_order(cells: dict[str, Any]) -> dict[str, Any]:
  """As in the list of settings, without those that are no more."""
  return {k: cells[k] for k in runs.SETTINGS if k in cells}


def main(argv: list[str] | None = None) -> None:
  """Runs all settings and writes the table and the figure."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation")
  parser.add_argument("--jobs", type=int, default=2, help="processes")
  parser.add_argument("--table", action="store_true", help="run nothing")
  parser.add_argument(
    "--settings", nargs="+", default=["*"], help="names or patterns"
  )
  arguments = parser.parse_args(argv)
  if not arguments.table:
    measured = _all(_matching(arguments.settings), arguments.jobs)
    kept = {}
    if arguments.settings != ["*"]:
      kept = json.loads(RESULTS.read_text())["bases"]
    size = runs.SIZE
    found = {
      "made": environment.describe(),
      "size": {"problems": size.count * len(size.chosen), "seed": size.seed},
      "bases": {
        base: _in_order(kept.get(base, {}) | cells)
        for base, cells in measured.items()
      },
    }
    RESULTS.write_text(json.dumps(found, separators=(",", ":")) + "\n")
  found = json.loads(RESULTS.read_text())
  print(page.text(found))
  DOCS.write_text(page.fill(DOCS.read_text(), found))
  page.draw(found, FIGURE)


if __name__ == "__main__":
  main()
