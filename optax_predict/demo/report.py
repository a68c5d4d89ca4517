"""Turns runs into a table, a plot and JSON."""

from collections.abc import Callable
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
# Of the optimizer's best rate.
SHARES = (1.0, 0.1, 0.01)
_RATE_NAMES = {1.0: "best rate", 0.1: "a tenth", 0.01: "a hundredth"}


def summarize(
  task: Task,
  optimizer: str,
  tried: int,
  found: dict[float, tuple[list[runs.Run], list[runs.Run]]],
  run: tuple[Callable[..., runs.Run], Callable[..., runs.Run]],
) -> dict[str, Any]:
  """What one optimizer did on one task, in numbers.

  Args:
    task: the task.
    optimizer: its name.
    tried: rates that were run to find the best.
    found: by the share of that rate, one run per seed alone and accelerated.
    run: what made them, alone and accelerated, to time runs again.
  """
  best = found[1.0][0]
  times = _times(run, found[1.0]) if task.is_noisy else {}
  return {
    "task": task.title,
    "optimizer": optimizer,
    "rate": best[0].rate,
    "rates_tried": tried,
    "is_noisy": task.is_noisy,
    "steps": task.steps,
    "runs": [
      {
        "share": share,
        "alone": [_record(r) for r in alone],
        "accelerated": [_record(r) for r in accelerated],
      }
      for share, (alone, accelerated) in found.items()
    ],
    "targets": []
    if task.is_noisy
    else [_target(tau, best, found, run) for tau in TARGETS],
  } | times


def _record(run):
  record = run._asdict()
  return record | {"losses": run.losses.tolist()}


def _target(tau, best, found, run):
  """True gradients and seconds to a target, medians over starts."""
  ends = [runs.best_so_far(r.losses)[-1] for r in best]
  levels = [
    end + tau * (r.losses[0] - end) for r, end in zip(best, ends, strict=True)
  ]
  alone, accelerated = run

  def gradients(results):
    needed = map(runs.gradients_to, [r.losses for r in results], levels)
    return float(np.median(list(needed)))

  def seconds(run, results):
    needed = [
      _time(run, r, runs.gradients_to(r.losses, level))
      for r, level in zip(results, levels, strict=True)
    ]
    return float(np.median(needed))

  return {
    "share_of_gap": tau,
    "gradients_alone": gradients(best),
    "gradients": [gradients(both[1]) for both in found.values()],
    "seconds_alone": seconds(alone, best),
    "seconds": [seconds(accelerated, both[1]) for both in found.values()],
  }


def _times(run, results):
  """Seconds of whole runs, alone and accelerated, medians over starts."""
  alone, accelerated = (
    float(np.median([_time(one, r, len(r.losses)) for r in some]))
    for one, some in zip(run, results, strict=True)
  )
  return {"seconds_alone": alone, "seconds": accelerated}


def _time(run, result, gradients):
  """Seconds that so many gradients of a run take; the best of five."""
  if not math.isfinite(gradients):
    return math.inf
  again = [run(result.rate, result.seed, int(gradients)) for _ in range(5)]
  return min(r.seconds for r in again)


def table(summaries: list[dict[str, Any]]) -> str:
  """A plain table: what was needed alone and accelerated."""
  lines = []
  exact = [s for s in summaries if not s["is_noisy"]]
  noisy = [s for s in summaries if s["is_noisy"]]
  if exact:
    lines += [
      "True gradients to a target (a share of the gap from the start to the best"
      " loss of",
      "the tuned optimizer): alone at the best of the rates tried; accelerated at"
      " that rate,",
      "at a tenth and at a hundredth of it.",
      f"{'task':42}{'optimizer':10}{'tried':>6}{'rate':>7}{'target':>7}"
      f"{'alone':>6}{'same':>6}{'1/10':>6}{'1/100':>6}{'time':>6}",
    ]
  for s in exact:
    for target in s["targets"]:
      needed = "".join(f"{_count(n):>6}" for n in target["gradients"])
      time = _ratio(target["seconds"][0], target["seconds_alone"])
      lines.append(
        f"{s['task']:42}{s['optimizer']:10}{s['rates_tried']:6}"
        f"{s['rate']:7.2g}{target['share_of_gap']:7.0e}"
        f"{_count(target['gradients_alone']):>6}{needed}{time:>6}"
      )
  if noisy:
    lines += [
      "",
      "Minibatches: prediction is to switch itself off; what it changes is rounding:",
      f"{'task':42}{'optimizer':10}{'rate':>7}{'loss alone':>12}"
      f"{'accelerated':>13}{'predicted':>11}{'time':>6}",
    ]
  for s in noisy:
    (both,) = s["runs"]
    alone, ours = both["alone"], both["accelerated"]
    predicted = np.mean([r["predicted_steps"] for r in ours]) / s["steps"]
    time = _ratio(s["seconds"], s["seconds_alone"])
    lines.append(
      f"{s['task']:42}{s['optimizer']:10}{s['rate']:7.2g}"
      f"{np.mean([r['final_loss'] for r in alone]):12.4g}"
      f"{np.mean([r['final_loss'] for r in ours]):13.4g}"
      f"{predicted:11.1%}{time:>6}"
    )
  lines += [
    "",
    "time: to the target, or of the run, relative to alone at the same rate;"
    " compiled before.",
  ]
  return "\n".join(lines).strip()


def _count(needed):
  """A number of gradients; a dash where the target was not reached."""
  reached = needed is not None and needed < math.inf
  return f"{needed:.0f}" if reached else "-"


def _ratio(ours, alone):
  if ours is None or alone is None or not math.isfinite(ours / alone):
    return "-"
  return f"{ours / alone:.2f}"


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
  path.write_text(json.dumps(record, separators=(",", ":"), allow_nan=False))


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
  colors = dict(zip(SHARES, ("C0", "C1", "C2"), strict=True))
  for both in summary["runs"]:
    color = colors[both["share"]]
    where = _RATE_NAMES[both["share"]]
    for key, style, name in (
      ("alone", ":", summary["optimizer"]),
      ("accelerated", "-", "accelerated"),
    ):
      curve = np.asarray(both[key][0]["losses"], float)
      curve = _smooth(curve) if summary["is_noisy"] else runs.best_so_far(curve)
      axis.semilogy(
        np.arange(1, curve.size + 1),
        curve,
        style,
        color=color,
        linewidth=1.5,
        label=f"{name}, {where}",
      )
  axis.set_title(summary["task"], fontsize=9)
  axis.set_xlabel("true gradients")
  axis.set_ylabel(
    "loss, averaged" if summary["is_noisy"] else "lowest loss so far"
  )
  axis.legend(fontsize=7)
  axis.grid(alpha=0.3)


def _smooth(curve, width=25):
  kernel = np.ones(width) / width
  padded = np.pad(curve, (width // 2, width - 1 - width // 2), mode="edge")
  return np.convolve(padded, kernel, mode="valid")
