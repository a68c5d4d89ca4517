"""python -m benchmarks.rates [run | report | page].

`run` runs what is missing and reports; `report` makes results/rates.json from
the cells, and the page and the figure from that; `page` makes only the latter
two. Needs results/summary.json, for targets and best rates, which the folder
results/rates_cells keeps: after a new summary, begin by deleting it.
"""

import argparse
import fnmatch
import functools
import json
import pathlib
import sys

_HERE = pathlib.Path(__file__).parents[1]
_RESULTS = _HERE / "results"
_DOCS = _HERE.parent / "docs"
_QUICK_LABELS = ("1e-4", "1e-3", "1e-2", "1/100", "1/10", "1")


def _parser() -> argparse.ArgumentParser:
  from benchmarks.methods import opponents
  from benchmarks.rates import plan
  from benchmarks.rates import ratios

  parser = argparse.ArgumentParser(prog="python -m benchmarks.rates")
  commands = ("run", "report", "page")
  parser.add_argument("command", nargs="?", default="run", choices=commands)
  parser.add_argument("--tasks", nargs="+", default=["*"], help="or patterns")
  parser.add_argument(
    "--groups", nargs="+", default=ratios.GROUPS, choices=ratios.GROUPS
  )
  parser.add_argument("--starts", type=int, default=3, choices=(1, 2, 3))
  parser.add_argument("--rates", nargs="+", default=None, choices=plan.LABELS)
  parser.add_argument(
    "--bases", nargs="+", default=None, choices=tuple(opponents.BASES)
  )
  parser.add_argument(
    "--only", choices=("with", "alone"), help="with or without prediction"
  )
  parser.add_argument("--quick", action="store_true", help="a small sample")
  parser.add_argument("--jobs", type=int, default=2, help="processes")
  parser.add_argument(
    "--results", type=pathlib.Path, default=None, help="folder of results"
  )
  parser.add_argument(
    "--summary",
    type=pathlib.Path,
    default=_RESULTS / "summary.json",
    help="of the tuned comparison",
  )
  return parser


def _tasks(arguments) -> list[str]:
  from benchmarks import tasks
  from benchmarks.savings import runner
  from benchmarks.tasks import cutest

  listed = {"reporting": tasks.names("reporting"), "cutest": cutest.names()}
  names = [name for group in arguments.groups for name in listed[group]]
  if arguments.quick:
    names = [n for n in names if n in runner.QUICK_TASKS]
  patterns = arguments.tasks
  chosen = [n for n in names if any(fnmatch.fnmatch(n, p) for p in patterns)]
  if not chosen:
    raise SystemExit(f"nothing matches {patterns}; there are {names}")
  return chosen


def _settings(arguments):
  from benchmarks.methods import opponents
  from benchmarks.rates import plan

  labels = arguments.rates or (
    _QUICK_LABELS if arguments.quick else plan.LABELS
  )
  which = {"with": (True,), "alone": (False,), None: (True, False)}
  return plan.settings(
    tuple(arguments.bases or opponents.BASES),
    tuple(labels),
    which[arguments.only],
  )


def _run(arguments, folder: pathlib.Path) -> int:
  from benchmarks.rates import cells
  from benchmarks.savings import runner

  seeds = cells.SEEDS[: 1 if arguments.quick else arguments.starts]
  settings = _settings(arguments)
  summary = json.loads(arguments.summary.read_text())
  todo = {}
  for task in _tasks(arguments):
    bench = cells.Bench(folder, task, settings, seeds)
    known = bench.remember(summary)
    if missing := bench.missing(known):
      todo[task] = [bench.path(*cell) for cell in missing]
  work = functools.partial(cells.work, folder, settings=settings, seeds=seeds)
  return runner.pooled(todo, work, arguments.jobs)


def _report(cells: pathlib.Path, file: pathlib.Path) -> None:
  from benchmarks import environment
  from benchmarks.rates import collecting

  found = collecting.collect(cells)
  if not found:
    raise SystemExit(f"no cells in {cells}: make some with `run`.")
  content = {"made": environment.describe(), "tasks": found}
  file.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def _page(file: pathlib.Path, folder: pathlib.Path) -> None:
  from benchmarks.rates import figure
  from benchmarks.rates import page

  found = json.loads(file.read_text())
  (folder / "rates.md").write_text(page.text(found))
  figure.draw(found, folder / page.FIGURE)
  print("wrote", folder / "rates.md")


def main(argv: list[str] | None = None) -> int:
  """Runs one command; returns the exit status."""
  arguments = _parser().parse_args(argv)
  results = arguments.results
  if results is None:
    results = _RESULTS / "quick" if arguments.quick else _RESULTS
  results.mkdir(parents=True, exist_ok=True)
  cells, file = results / "rates_cells", results / "rates.json"
  failed = 0
  if arguments.command == "run":
    failed = _run(arguments, cells)
  if arguments.command != "page":
    _report(cells, file)
  _page(file, _DOCS if results == _RESULTS else results)
  return min(failed, 1)


if __name__ == "__main__":
  sys.exit(main())
