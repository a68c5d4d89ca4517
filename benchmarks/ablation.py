"""What each choice in the defaults is worth: one change at a time.

python -m benchmarks.ablation            # what is missing, then the table
python -m benchmarks.ablation --fresh    # all of it, about half an hour
python -m benchmarks.ablation --table    # only the table in the docs

On the tuning tasks, at the base's best learning rate, from three starts: how
many true gradients until the loss is within 1e-3 of the way from the start to
the lowest loss that the base reaches with its whole budget.
"""

import argparse
import functools
import json
import math
import os
import pathlib
import re
import statistics

from benchmarks import ablation_runs
from benchmarks import environment
from benchmarks import opponents
from benchmarks import report
from benchmarks import tasks

HARM = 1.05
_ROOT = pathlib.Path(__file__).parents[1]
RESULTS = _ROOT / "benchmarks" / "results" / "ablation.json"
DOCS = _ROOT / "docs" / "forecasters.md"
_SPAN = re.compile(r"(<!-- ablation -->\n)(.*?)(<!-- /ablation -->)", re.S)


def ratio(cell: dict, setting: str) -> float:
  """Median true gradients over the base's, 2 at most."""
  counts = [math.inf if n is None else n for n in cell["counts"][setting]]
  relative = statistics.median(counts) / statistics.median(cell["base"])
  return min(relative, ablation_runs.WORST)


def ratios(found: dict, setting: str, base: str = "") -> list[float]:
  """The ratios of all cells of a base, or of all bases."""
  return [
    ratio(cell, setting)
    for key, cell in found["cells"].items()
    if setting in cell["counts"] and key.endswith(f"/{base}" if base else "")
  ]


def _mean(values: list[float]) -> str:
  return report.number(
    statistics.geometric_mean(values) if values else math.nan
  )


def text(found: dict) -> str:
  """The table and what it was made of."""
  rows = []
  for setting in ablation_runs.SETTINGS:
    every = ratios(found, setting)
    if every:
      by_base = [_mean(ratios(found, setting, b)) for b in opponents.BASES]
      harmed = sum(r > HARM for r in every)
      rows.append(
        [setting, f"**{_mean(every)}**", *by_base, str(harmed), str(len(every))]
      )
  names = sorted({key.rsplit("/", 1)[0] for key in found["cells"]})
  made = found["made"]
  head = ["change", "all", *opponents.BASES, f"above {HARM}", "cells"]
  return (
    f"{report.table(head, rows)}\n"
    f"Tasks: {', '.join(names)}. Made {made['date']} with optax_predict"
    f" {made['optax_predict']}, jax {made['versions']['jax']}.\n"
  )


def fill(page: str, found: dict) -> str:
  """The page with the table between its marks."""
  return _SPAN.sub(lambda m: m[1] + text(found) + m[3], page)


def _save(file: pathlib.Path, found: dict) -> None:
  part = file.with_suffix(f".{os.getpid()}.part")
  part.write_text(json.dumps(found, separators=(",", ":")) + "\n")
  part.replace(file)


def main(argv: list[str] | None = None) -> None:
  """Runs what is missing and writes the table."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation")
  known = tasks.names("tuning")
  parser.add_argument("--tasks", nargs="+", default=known, choices=known)
  parser.add_argument("--bases", nargs="+", default=list(opponents.BASES))
  parser.add_argument(
    "--settings", nargs="+", default=list(ablation_runs.SETTINGS)
  )
  parser.add_argument("--fresh", action="store_true", help="forget all cells")
  parser.add_argument("--table", action="store_true", help="run nothing")
  parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
  arguments = parser.parse_args(argv)
  file = arguments.results
  found = {"made": environment.describe(), "cells": {}}
  if file.exists() and not arguments.fresh:
    found = json.loads(file.read_text())
  save = functools.partial(_save, file)
  for name in [] if arguments.table else arguments.tasks:
    for base in arguments.bases:
      ablation_runs.run_cell(found, name, base, arguments.settings, save)
      print(f"{name}/{base}", flush=True)
  print(text(found))
  if file == RESULTS:
    DOCS.write_text(fill(DOCS.read_text(), found))


if __name__ == "__main__":
  main()
