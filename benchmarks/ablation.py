"""What each choice in the defaults is worth: one change at a time.

python -m benchmarks.ablation          # everything, about twenty minutes
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
import math
import multiprocessing
import pathlib
import re
from typing import Any

import tqdm

from benchmarks import ablation_runs
from benchmarks import environment
from benchmarks import report

_ROOT = pathlib.Path(__file__).parents[1]
RESULTS = _ROOT / "benchmarks" / "results" / "ablation.json"
DOCS = _ROOT / "docs" / "forecasters.md"
FIGURE = _ROOT / "docs" / "memory.png"
# Jobs of a base: each tunes it anew, and the bar moves when one is done.
_PARTS = 6
_SPAN = re.compile(r"(<!-- ablation -->\n)(.*?)(<!-- /ablation -->)", re.S)


def ratio(found: dict, setting: str, bases: list[str]) -> float:
  """Geometric mean over bases, each with the same weight."""
  cells = [found["bases"][base][setting] for base in bases]
  return math.exp(sum(c["log_ratio"] for c in cells) / len(cells))


def text(found: dict) -> str:
  """The table and what it was made of."""
  bases, rows = list(found["bases"]), []
  for setting in found["bases"][bases[0]]:
    cells = [found["bases"][base][setting] for base in bases]
    harmed = sum(c["harmed"] for c in cells) / sum(c["counted"] for c in cells)
    rows.append(
      [
        setting,
        f"**{ratio(found, setting, bases):.3f}**",
        *(f"{ratio(found, setting, [base]):.3f}" for base in bases),
        f"{100 * harmed:.1f}%",
        str(sum(c["lost"] for c in cells)),
      ]
    )
  made, size = found["made"], found["size"]
  runs = sum(found["bases"][base]["default"]["runs"] for base in bases)
  head = ["change", "all", *bases, f"above {ablation_runs.HARM}", "lost"]
  return (
    f"{report.table(head, rows)}\n"
    f"{runs} runs per line: {size['problems']} problems of seed {size['seed']},"
    f" {len(bases)} optimizers, two rates. Made {made['date']} with"
    f" optax_predict {made['optax_predict']}, jax {made['versions']['jax']}.\n"
  )


def fill(page: str, found: dict) -> str:
  """The page with the table between its marks."""
  return _SPAN.sub(lambda m: m[1] + text(found) + m[3], page)


def draw(found: dict, file: pathlib.Path) -> None:
  """Saving against what a predicted step reads, by directions and memory."""
  from matplotlib import pyplot as plt

  bases, ticks = list(found["bases"]), set()
  figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
  for option, line in (("directions", "o-"), ("memory", ".:")):
    points = {10: "default"} | {
      int(name.removeprefix(f"{option}=")): name
      for name in found["bases"][bases[0]]
      if re.fullmatch(rf"{option}=\d+", name)
    }
    ticks |= set(points)
    for base, color in zip(bases, ("C0", "C1", "C2")):
      saved = [
        100 * (1 - ratio(found, points[r], [base])) for r in sorted(points)
      ]
      reads = [2 * r + 5 for r in sorted(points)]
      label = base if option == "directions" else None
      ax.plot(reads, saved, line, color=color, label=label)
  ax.plot([], [], ".:", color="gray", label="as many pairs as directions")
  ax.set_xscale("log")
  ax.set_xticks(
    [2 * r + 5 for r in sorted(ticks)],
    [f"{2 * r + 5}\n{r + 3}\nr = {r}" for r in sorted(ticks)],
  )
  ax.minorticks_off()
  ax.set(
    xlabel="reads of a predicted step; copies kept (in parameter sizes)",
    ylabel="true gradients saved, %",
    ylim=(0, None),
  )
  ax.grid(alpha=0.3)
  ax.legend()
  figure.savefig(file, dpi=110)
  plt.close(figure)


def _all(settings: list[str], jobs: int) -> dict[str, dict[str, Any]]:
  """Every setting with every base; a base's share of them in each process."""
  parts = [
    (base, settings[i::_PARTS])
    for base in ablation_runs.BASES
    for i in range(_PARTS)
  ]
  context = multiprocessing.get_context("spawn")
  found: dict[str, dict[str, Any]] = {b: {} for b in ablation_runs.BASES}
  with (
    futures.ProcessPoolExecutor(jobs, context) as pool,
    tqdm.tqdm(total=len(ablation_runs.BASES) * len(settings)) as bar,
  ):
    waiting = {
      pool.submit(ablation_runs.measure, base, part, ablation_runs.SIZE): base
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
    for name in ablation_runs.SETTINGS
    if any(name == p or fnmatch.fnmatch(name, p) for p in patterns)
  ]
  if not found:
    known = ", ".join(ablation_runs.SETTINGS)
    raise SystemExit(f"nothing matches {patterns}; there are {known}")
  return found


def _in_order(cells: dict[str, Any]) -> dict[str, Any]:
  """As in the list of settings, without those that are no more."""
  return {k: cells[k] for k in ablation_runs.SETTINGS if k in cells}


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
    size = ablation_runs.SIZE
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
  print(text(found))
  DOCS.write_text(fill(DOCS.read_text(), found))
  draw(found, FIGURE)


if __name__ == "__main__":
  main()
