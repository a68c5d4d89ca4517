"""python -m benchmarks.reliability [--quick] [--jobs 2] [--out docs].

Writes reliability.md, reliability.json and reliability.png: an hour or more
on two cores, or under a minute for a sample with --quick.
"""

import argparse
import json
import pathlib
from typing import Any

_DOCS = pathlib.Path(__file__).parents[2] / "docs"


def write(results: dict[str, Any], folder: pathlib.Path) -> None:
  """The JSON, the page and the figure."""
  from benchmarks.reliability import figure
  from benchmarks.reliability import report

  folder.mkdir(parents=True, exist_ok=True)
  (folder / "reliability.json").write_text(json.dumps(results) + "\n")
  (folder / "reliability.md").write_text(report.text(results))
  figure.draw(results, folder / "reliability.png")


def main(arguments: list[str] | None = None) -> None:
  """The command."""
  from benchmarks.reliability import comparing
  from benchmarks.reliability import measuring
  from benchmarks.reliability import running

  parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability")
  parser.add_argument("--quick", action="store_true", help="a small sample")
  parser.add_argument("--jobs", type=int, default=2, help="processes")
  parser.add_argument("--out", type=pathlib.Path, default=None, help="folder")
  parser.add_argument("--seed", type=int, default=1, help="of the problems")
  parser.add_argument(
    "--count", type=int, default=20, help="problems per family"
  )
  parser.add_argument(
    "--bases", nargs="+", default=list(running.BASES), choices=running.BASES
  )
  options = parser.parse_args(arguments)
  size, bases = comparing.Size(count=options.count), options.bases
  if options.quick:
    size, bases = measuring.QUICK, bases[:1]
  size = size._replace(seed=options.seed)
  folder = options.out
  if folder is None:
    folder = pathlib.Path("reliability_quick") if options.quick else _DOCS
  write(measuring.measure(size, bases, options.quick, options.jobs), folder)
  print("written to", folder)


if __name__ == "__main__":
  main()
