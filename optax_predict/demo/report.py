"""Turns runs into a table, a plot and JSON."""

import datetime
import json
import math
import pathlib
import platform
from typing import Any

import jax
import numpy as np
import optax

from optax_predict.demo import runs
from optax_predict.demo.tasks import Task

# Shares of the way from the start to the tuned optimizer's best loss.
TARGETS = (1e-2, 1e-4)


def summarize(
  task: Task, optimizer: str, alone: list[runs.Run], same: list[runs.Run]
) -> dict[str, Any]:
  """What one optimizer did on one task, in numbers.

  Args:
    task: the task.
    optimizer: its name.
    alone: one run per seed without prediction, at its best rate.
    same: the same with prediction at the same rate.
  """
  summary = {
    "task": task.title,
    "optimizer": optimizer,
    "rate": alone[0].rate,
    "is_noisy": task.is_noisy,
    "steps": task.steps,
    "predicted_steps": [r.predicted_steps for r in same],
    "final_loss": [r.final_loss for r in alone],
    "final_loss_predicting": [r.final_loss for r in same],
    "seconds": [r.seconds for r in alone],
    "seconds_predicting": [r.seconds for r in same],
    "losses": [r.losses.tolist() for r in alone],
    "losses_predicting": [r.losses.tolist() for r in same],
    "horizons": [r.horizons.tolist() for r in same],
    "mean_horizon": float(np.mean([r.horizons for r in same])),
    "targets": [],
  }
  if not task.is_noisy:
    summary["targets"] = [_target(tau, alone, same) for tau in TARGETS]
  return summary


def _target(tau, alone, same):
  needed, needed_predicting = [], []
  for base, predicting in zip(alone, same, strict=True):
    best = runs.best_so_far(base.losses)[-1]
    target = best + tau * (base.losses[0] - best)
    needed.append(runs.gradients_to(base.losses, target))
    needed_predicting.append(runs.gradients_to(predicting.losses, target))
  return {
    "share_of_gap": tau,
    "gradients": float(np.median(needed)),
    "gradients_predicting": float(np.median(needed_predicting)),
  }


def table(summaries: list[dict[str, Any]]) -> str:
  """A plain table: what was needed without and with prediction."""
  lines = []
  exact = [s for s in summaries if not s["is_noisy"]]
  noisy = [s for s in summaries if s["is_noisy"]]
  if exact:
    lines += [
      "True gradients to a target loss (a share of the gap from the start to"
      " the tuned optimizer's best):",
      f"{'task':42}{'optimizer':11}{'rate':>9}{'target':>8}{'alone':>7}"
      f"{'with':>6}{'saved':>7}{'horizon':>9}{'run time':>10}",
    ]
  for s in exact:
    for target in s["targets"]:
      alone, predicting = target["gradients"], target["gradients_predicting"]
      saved = f"{1 - predicting / alone:.0%}" if predicting < math.inf else "-"
      lines.append(
        f"{s['task']:42}{s['optimizer']:11}{s['rate']:9.3g}"
        f"{target['share_of_gap']:8.0e}{alone:7.0f}{predicting:6.0f}"
        f"{saved:>7}{s['mean_horizon']:9.1f}{_time_ratio(s):9.2f}x"
      )
  if noisy:
    lines += [
      "",
      "Minibatches: prediction is to switch itself off and change nothing:",
      f"{'task':42}{'optimizer':11}{'rate':>9}{'loss alone':>12}"
      f"{'loss with':>12}{'predicted steps':>17}{'run time':>10}",
    ]
  for s in noisy:
    lines.append(
      f"{s['task']:42}{s['optimizer']:11}{s['rate']:9.3g}"
      f"{np.mean(s['final_loss']):12.4g}"
      f"{np.mean(s['final_loss_predicting']):12.4g}"
      f"{np.mean(s['predicted_steps']) / s['steps']:17.1%}"
      f"{_time_ratio(s):9.2f}x"
    )
  lines += [
    "",
    "run time: the same number of true gradients with prediction, relative to"
    " without.",
  ]
  return "\n".join(lines).strip()


def _time_ratio(summary):
  ratios = np.divide(summary["seconds_predicting"], summary["seconds"])
  return float(np.median(ratios))


def write_json(
  path: pathlib.Path, summaries: list[dict[str, Any]], seed: int
) -> None:
  """All numbers and curves, with what made them."""
  import optax_predict

  record = {
    "versions": {
      "optax_predict": optax_predict.__version__,
      "optax": optax.__version__,
      "jax": jax.__version__,
      "python": platform.python_version(),
    },
    "device": jax.devices()[0].device_kind,
    "date": datetime.date.today().isoformat(),
    "seed": seed,
    "results": _finite(summaries),
  }
  path.write_text(json.dumps(record, indent=1, allow_nan=False))


def _finite(value):
  """JSON knows no infinity: what was never reached is null."""
  if isinstance(value, dict):
    return {k: _finite(v) for k, v in value.items()}
  if isinstance(value, list):
    return [_finite(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def plot(path: pathlib.Path, summaries: list[dict[str, Any]]) -> None:
  """Loss against true gradients, one panel per task and optimizer."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot as plt

  columns = min(3, len(summaries))
  rows = -(-len(summaries) // columns)
  figure, axes = plt.subplots(
    rows,
    columns,
    figsize=(4.2 * columns, 3.2 * rows),
    squeeze=False,
    layout="constrained",
  )
  for axis in axes.flat[len(summaries) :]:
    axis.set_visible(False)
  for axis, summary in zip(axes.flat, summaries, strict=False):
    _draw(axis, summary)
  figure.savefig(path, dpi=120)
  plt.close(figure)


def _draw(axis, summary):
  styles = (("losses", "C7", ""), ("losses_predicting", "C0", " + prediction"))
  for key, color, suffix in styles:
    for i, losses in enumerate(summary[key]):
      curve = np.asarray(losses, float)
      curve = _smooth(curve) if summary["is_noisy"] else runs.best_so_far(curve)
      axis.semilogy(
        np.arange(1, curve.size + 1),
        curve,
        color=color,
        linewidth=1.6 if i == 0 else 0.7,
        label=summary["optimizer"] + suffix if i == 0 else None,
      )
  axis.set_title(summary["task"], fontsize=9)
  axis.set_xlabel("true gradients")
  axis.set_ylabel(
    "loss, averaged" if summary["is_noisy"] else "lowest loss so far"
  )
  axis.legend(fontsize=8)
  axis.grid(alpha=0.3)


def _smooth(curve, width=25):
  kernel = np.ones(width) / width
  padded = np.pad(curve, (width // 2, width - 1 - width // 2), mode="edge")
  return np.convolve(padded, kernel, mode="valid")
