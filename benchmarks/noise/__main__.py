"""python -m benchmarks.noise [run | report | page].

`run` runs what is missing of both stages and reports; `report` makes
results/noise.json from the cells, and the page from that; `page` makes only
the latter.
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


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog="python -m benchmarks.noise")
  commands = ("run", "report", "page")
  parser.add_argument("command", nargs="?", default="run", choices=commands)
  parser.add_argument(
    "--tasks", nargs="+", default=["*"], help="or patterns, as text-4-adamw"
  )
  parser.add_argument("--jobs", type=int, default=2, help="processes")
  parser.add_argument(
    "--results", type=pathlib.Path, default=_RESULTS, help="folder of results"
  )
  return parser


def _run(folder: pathlib.Path, patterns: list[str], jobs: int) -> int:
  from benchmarks.noise import cells
  from benchmarks.noise import collecting
  from benchmarks.noise import plan
  from benchmarks.savings import runner

  named = [cells.label(*setting) for setting in plan.settings()]
  settings = [n for n in named if any(fnmatch.fnmatch(n, p) for p in patterns)]
  if not settings:
    raise SystemExit(f"nothing matches {patterns}; there are {named}")

  def stage(finalists) -> int:
    todo = {}
    for setting in settings:
      bench = cells.Bench(folder, setting)
      planned = [cells.SCREEN] if finalists is None else bench.stages()
      if missing := bench.missing(planned):
        todo[setting] = [bench.path(s) for s in missing]
    work = functools.partial(cells.work, folder, finalists)
    return runner.pooled(todo, work, jobs) if todo else 0

  return stage(None) or stage(collecting.finalists(folder))


def _report(folder: pathlib.Path, file: pathlib.Path) -> None:
  from benchmarks import environment
  from benchmarks.noise import collecting

  content = {"made": environment.describe()} | collecting.collect(folder)
  file.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def _page(file: pathlib.Path, folder: pathlib.Path) -> None:
  from benchmarks.noise import page

  (folder / "noise.md").write_text(page.text(json.loads(file.read_text())))
  print("wrote", folder / "noise.md")


def main(argv: list[str] | None = None) -> int:
  """Runs one command; returns the exit status."""
  arguments = _parser().parse_args(argv)
  results = arguments.results
  results.mkdir(parents=True, exist_ok=True)
  folder, file = results / "noise_cells", results / "noise.json"
  failed = 0
  if arguments.command == "run":
    failed = _run(folder, arguments.tasks, arguments.jobs)
  if arguments.command != "page":
    _report(folder, file)
  _page(file, _DOCS if results == _RESULTS else results)
  return min(failed, 1)


if __name__ == "__main__":
  sys.exit(main())
