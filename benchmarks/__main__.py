"""python -m benchmarks list | run | report | plot | quote | gallery.

`run` runs what is missing and reports. `report` makes the summary, the figures
and RESULTS.md from the cells; `plot` makes the latter two from the summary,
which is what the repository keeps. `quote` fills numbers into other files. `gallery`
executes the notebooks of the gallery, those that match `--tasks`.
"""

import argparse
import fnmatch
import json
import pathlib
import sys

_RESULTS = pathlib.Path(__file__).parent / "results"


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog="python -m benchmarks")
  commands = ("list", "run", "report", "plot", "quote", "gallery")
  parser.add_argument("command", choices=commands)
  parser.add_argument(
    "files", nargs="*", type=pathlib.Path, help="for quote: files to fill"
  )
  parser.add_argument(
    "--tasks", nargs="+", default=["*"], help="names or patterns"
  )
  parser.add_argument(
    "--methods", nargs="+", default=["*"], help="names or patterns"
  )
  parser.add_argument(
    "--quick", action="store_true", help="a few tasks and methods"
  )
  parser.add_argument("--jobs", type=int, default=2, help="processes")
  parser.add_argument(
    "--results", type=pathlib.Path, default=None, help="folder of results"
  )
  return parser


def _matching(names: list[str], patterns: list[str]) -> list[str]:
  chosen = [n for n in names if any(fnmatch.fnmatch(n, p) for p in patterns)]
  if not chosen:
    raise SystemExit(f"nothing matches {patterns}; there are {names}")
  return chosen


def _selected(arguments) -> tuple[list[str], list[str]]:
  from benchmarks import tasks
  from benchmarks.methods import opponents
  from benchmarks.savings import noisy_cells
  from benchmarks.savings import runner
  from benchmarks.tasks import cutest

  names = [*tasks.names(), *noisy_cells.names(), *cutest.names()]
  methods = opponents.names()
  if arguments.quick:
    names = [n for n in names if n in runner.QUICK_TASKS]
    methods = [m for m in methods if m in runner.QUICK_METHODS]
  return (
    _matching(names, arguments.tasks),
    _matching(methods, arguments.methods),
  )


def _list(arguments) -> int:
  from benchmarks import tasks

  names, methods = _selected(arguments)
  for name in names:
    spec = tasks.specs().get(name)
    print(name if spec is None else f"{name:24s} {spec.family} ({spec.role})")
  print("methods:", *methods)
  return 0


def _run(arguments, folder: pathlib.Path) -> int:
  from benchmarks.savings import runner

  names, methods = _selected(arguments)
  failed = runner.run(folder / "cells", names, methods, arguments.jobs)
  _report(folder)
  return min(failed, 1)


def _report(folder: pathlib.Path) -> int:
  """Summary, figures and RESULTS.md from whatever cells there are."""
  from benchmarks import environment
  from benchmarks.savings import summary

  if not any((folder / "cells").glob("*/*")):
    print(
      f"No results in {folder / 'cells'}: make some with `run`, or `plot` what"
      " is in summary.json.",
      file=sys.stderr,
    )
    return 1
  found = {"made": environment.describe()} | summary.collect(folder / "cells")
  file = folder / "summary.json"
  file.write_text(json.dumps(found, separators=(",", ":")) + "\n")
  return _plot(folder)


def _plot(folder: pathlib.Path) -> int:
  """Figures and RESULTS.md from the summary alone."""
  from benchmarks.savings import plots
  from benchmarks.savings import report

  found = json.loads((folder / "summary.json").read_text())
  plots.write(folder, found)
  file, prefix = folder / "RESULTS.md", ""
  if folder == _RESULTS:
    file, prefix = folder.parent / "RESULTS.md", f"{folder.name}/"
  file.write_text(report.text(folder, found, prefix))
  print("wrote RESULTS.md and figures")
  return 0


def _quote(folder: pathlib.Path, files: list[pathlib.Path]) -> int:
  from benchmarks import quotes

  found = quotes.published(folder)
  if not files:
    print("\n".join(f"{key}: {value}" for key, value in found.items()))
  for file in files:
    file.write_text(quotes.fill(file.read_text(), found))
  return 0


def _gallery(folder: pathlib.Path, arguments) -> int:
  from benchmarks.gallery import running as gallery

  chosen = _matching(gallery.names(), arguments.tasks)
  gallery.run(folder, chosen, is_full=not arguments.quick)
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs one command; returns the exit status."""
  arguments = _parser().parse_args(argv)
  folder = arguments.results
  if folder is None:
    folder = _RESULTS / "quick" if arguments.quick else _RESULTS
  folder.mkdir(parents=True, exist_ok=True)
  if arguments.command == "list":
    return _list(arguments)
  if arguments.command == "run":
    return _run(arguments, folder)
  if arguments.command == "quote":
    return _quote(folder, arguments.files)
  if arguments.command == "gallery":
    return _gallery(folder, arguments)
  return (_report if arguments.command == "report" else _plot)(folder)


if __name__ == "__main__":
  sys.exit(main())
