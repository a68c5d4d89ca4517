"""Tables, plots and records of the runs that the gallery compares.

``runs`` maps roles to runs. The gallery's are ``tutorial``, ``tuned``, ``scipy``,
``optax`` and ``accelerated``; there may be more. The first is what the others
are relative to.
"""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

import numpy as np

from optax_predict.demo.comparison.recording import final_loss
from optax_predict.demo.comparison.recording import gradients_to
from optax_predict.demo.comparison.recording import Run
from optax_predict.demo.comparison.recording import seconds_to
from optax_predict.demo.runs import best_so_far


def summarize(
  runs: Mapping[str, Run], target: Any
) -> dict[str, dict[str, Any]]:
  """Plain numbers by role; what was never reached is ``None``."""
  first = next(iter(runs.values()))
  gradients = gradients_to(first, target)
  seconds = seconds_to(first, target)

  def row(run):
    needed = gradients_to(run, target)
    time = seconds_to(run, target)
    numbers = {
      "gradients": needed,
      "ratio": needed / gradients,
      "seconds": time,
      "seconds_ratio": time / seconds,
      "final_loss": float(np.median(final_loss(run))),
      "total_gradients": len(run.losses),
      "total_seconds": float(run.seconds[-1]),
      "compile_seconds": run.compile_seconds,
    }
    if run.metric is not None:
      numbers["metric"] = float(np.median(_at_best(run)))
    return {"name": run.name} | {k: _plain(v) for k, v in numbers.items()}

  return {role: row(run) for role, run in runs.items()}


def _at_best(run):
  losses = np.where(np.isfinite(run.losses), run.losses, np.inf)
  best = np.argmin(losses, axis=0)
  return np.take_along_axis(run.metric, best[None], axis=0)


def _plain(number):
  return float(f"{number:.4g}") if np.isfinite(number) else None


def table(runs: Mapping[str, Run], target: Any, metric: str = "") -> str:
  """Markdown: what each run needed to the target, and where it ended."""
  rows = summarize(runs, target)
  columns = {
    "": "name",
    "true gradients": "gradients",
    "relative": "ratio",
    "seconds": "seconds",
    "relative time": "seconds_ratio",
    "final loss": "final_loss",
    "compiling, s": "compile_seconds",
  }
  if metric:
    columns[metric] = "metric"
  lines = [list(columns), ["---"] * len(columns)]
  for row in rows.values():
    lines.append([_text(row.get(key)) for key in columns.values()])
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value):
  if value is None:
    return "-"
  if isinstance(value, str):
    return value
  return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def save(name: str, runs: Mapping[str, Run], target: Any, **facts: Any) -> None:
  """Writes the numbers as JSON into the folder GALLERY_OUT, if that is set."""
  folder = os.environ.get("GALLERY_OUT")
  if folder:
    record = facts | {
      "target": _plain(float(np.median(target))),
      "runs": summarize(runs, target),
    }
    text = json.dumps(record, indent=1, allow_nan=False)
    (pathlib.Path(folder) / f"{name}.json").write_text(text + "\n")


def plot_runs(
  runs: Mapping[str, Run], target: Any, *, floor: float = 0.0, ylabel: str = ""
) -> Any:
  """The lowest loss so far against true gradients and against wall time.

  Args:
    runs: by role.
    target: a dotted line.
    floor: taken off the losses, such as the best known one.
    ylabel: of both panels.
  """
  from matplotlib import pyplot as plt

  figure, axes = plt.subplots(
    1, 2, figsize=(11, 4), sharey=True, layout="constrained"
  )
  for role, run in runs.items():
    loss = best_so_far(run.losses)
    if loss.ndim > 1:
      loss = np.median(loss, axis=1)
    width = 2.5 if role == "accelerated" else 1.3
    for axis, x in zip(axes, (np.arange(len(loss)) + 1, run.seconds)):
      axis.loglog(x, loss - floor, lw=width, label=run.name)
  for axis, label in zip(axes, ("true gradients", "seconds, compiled before")):
    axis.axhline(float(np.median(target)) - floor, color="grey", ls=":")
    axis.set_xlabel(label)
    axis.grid(alpha=0.3)
  axes[0].set_ylabel(ylabel or "lowest loss so far")
  axes[0].legend(fontsize=8)
  return figure
