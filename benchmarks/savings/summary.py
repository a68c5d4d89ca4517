"""From cells to one summary: evaluations to every target, medians, curves.

The best known loss of a start is the lowest over every run from it that was
kept, so a target may move when methods are added; all counts move with it.
"""

import math
import pathlib
import statistics

from benchmarks.methods import opponents
from benchmarks.methods import running
from benchmarks.methods import targets
from benchmarks.savings import cell_files
from benchmarks.savings import cells

_CURVE_POINTS = 40


def collect(folder: pathlib.Path) -> dict:
  """Everything the report and the plots need, as JSON."""
  found = {"tasks": {}, "noisy": {}}
  for task_folder in sorted(p for p in folder.glob("*") if p.is_dir()):
    name = task_folder.name.replace("__", "/")
    kind = "noisy" if name.startswith("noisy/") else "tasks"
    read = _noisy if kind == "noisy" else _deterministic
    if content := read(task_folder):
      found[kind][name] = content
  return found


def _cells(folder: pathlib.Path, stage: str) -> dict[str, dict]:
  """Method -> cell of one stage, in table order."""
  order = [cells.REFERENCE, *opponents.names()]
  files = {m: folder / f"{m}.{stage}.json.gz" for m in order}
  return {m: cell_files.load(f) for m, f in files.items() if f.exists()}


def _bests(kept: list[running.Run]) -> list[float]:
  lowest = []
  for seed in cells.SEEDS:
    runs = [run for run in kept if run.seed == seed]
    lowest.append(min(targets.lowest(run.losses) for run in runs))
  return lowest


def _deterministic(folder: pathlib.Path) -> dict | None:
  starts, grids = _cells(folder, "starts"), _cells(folder, "grid")
  if cells.REFERENCE not in starts:
    return None
  header = starts[cells.REFERENCE]
  every = [*starts.values(), *grids.values()]
  bests = _bests([run for cell in every for _, run in cells.runs_of(cell)])
  reference = [run for _, run in cells.runs_of(header)]
  origins = [run.losses[0] for run in reference]
  taus = [
    tau
    for tau in targets.TAUS
    if all(map(targets.is_resolved, origins, bests, [tau] * len(bests)))
  ]
  rows, curves = [], {}
  for method, cell in starts.items():
    if method != cells.REFERENCE and cell["runs"]:
      rows += _rows(cell, bests, taus)
      curves |= _curves(cell, bests)
  return {
    **{k: header[k] for k in ("family", "role", "budget", "size")},
    "start": [cell_files.number(x) for x in origins],
    "best": [cell_files.number(x) for x in bests],
    "taus": taus,
    "tried": {m: len(grid["runs"]) for m, grid in grids.items()},
    "rows": rows,
    "curves": curves,
  }


def _modes(cell: dict, tau: float) -> dict[str, int | None]:
  """Mode -> the index of the rate shown for this target."""
  if "chosen" not in cell:
    return {"tuned": None}
  return {mode: ks[str(tau)] for mode, ks in cell["chosen"].items()}


def _rows(cell: dict, bests: list[float], taus: list[float]) -> list[dict]:
  rows = []
  for tau in taus:
    for mode, k in _modes(cell, tau).items():
      runs = [run for at, run in cells.runs_of(cell) if at == k]
      counts = [
        targets.evaluations(run.losses, targets.level(run.losses[0], best, tau))
        for run, best in zip(runs, bests, strict=True)
      ]
      rows.append(
        {
          "method": cell["method"],
          "mode": mode,
          "tau": tau,
          "rate": runs[0].rate,
          "evaluations": [_finite(c) for c in counts],
          "median": _finite(statistics.median(counts)),
          "predicted": statistics.fmean(
            run.predicted / (run.predicted + len(run.losses)) for run in runs
          ),
          "forward_only": max(run.forward_only for run in runs),
        }
      )
  return rows


def _finite(x: float) -> float | None:
  return x if math.isfinite(x) else None


def _curves(cell: dict, bests: list[float]) -> dict:
  """Best loss so far at the first start, at the rates for the middle target.

  Values are shares of the way still to go: (f - f*) / (f0 - f*).
  """
  found = {}
  for mode, k in _modes(cell, targets.TAUS[1]).items():
    runs = [run for at, run in cells.runs_of(cell) if at == k]
    losses, best = runs[0].losses, bests[0]
    gap = losses[0] - best
    counts, shares, lowest = [], [], math.inf
    picked = _spaced(len(losses))
    for count, loss in enumerate(losses, 1):
      lowest = min(lowest, loss)
      if count in picked and gap > 0:
        counts.append(count)
        shares.append(float(f"{max(lowest - best, 0) / gap:.4g}"))
    found[f"{cell['method']}/{mode}"] = [counts, shares]
  return found


def _spaced(length: int) -> set[int]:
  """About forty counts, dense where a run begins."""
  ratio = length ** (1 / (_CURVE_POINTS - 1))
  return {round(ratio**i) for i in range(_CURVE_POINTS)} | {length}


def _noisy(folder: pathlib.Path) -> dict | None:
  found = _cells(folder, "seeds")
  if not found:
    return None
  first = next(iter(found.values()))
  rows = []
  for method, cell in found.items():
    for mode, k in cell["chosen"].items():
      runs = sorted(
        (r for r in cell["runs"] if r["k"] == k), key=lambda r: r["seed"]
      )
      rows.append(
        {
          "method": method,
          "mode": mode,
          "rate": runs[0]["rate"],
          "evaluated": runs[0]["evaluated"],
          "losses": [r["losses"] for r in runs],
          "predicted": [r["predicted"] for r in runs],
        }
      )
  return {"budget": first["budget"], "size": first["size"], "rows": rows}
