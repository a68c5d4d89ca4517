"""Figures from the summary: profiles, bars, the regime map."""

import math
import pathlib

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
import numpy as np

from benchmarks.methods import targets
from benchmarks.savings import analysis

_MIDDLE = targets.TAUS[1]
_COLOURS = {"sgd": "C0", "momentum": "C1", "adam": "C2"}


def _styles() -> dict[tuple[str, str], dict]:
  """Prediction in full lines, its base dashed in the same colour."""
  styles = {}
  for base, colour in _COLOURS.items():
    styles[base, "tuned"] = {"color": colour, "ls": "--"}
    styles[f"{base}+predict", "tuned"] = {"color": colour, "lw": 2}
  styles["nesterov", "tuned"] = {"color": "C5", "ls": ":"}
  styles["optimistic", "tuned"] = {"color": "C6", "ls": ":"}
  styles["scipy_lbfgs", "tuned"] = {"color": "black", "ls": "-."}
  styles["optax_lbfgs", "tuned"] = {"color": "grey", "ls": "-."}
  return styles


def _counts(summary: dict, tau: float, groups: tuple[str, ...]):
  """Method and mode -> median counts by task, for tasks all of them ran."""
  shown = {}
  tasks = {
    name: task
    for name, task in summary["tasks"].items()
    if analysis.group(name, task) in groups and tau in task["taus"]
  }
  for style in _styles():
    rows = [analysis.row(task, *style, tau) for task in tasks.values()]
    if rows and None not in rows:
      counts = [r["median"] or math.inf for r in rows]
      shown[style] = np.array(counts, float)
  sizes = np.array([task["size"] for task in tasks.values()])
  return shown, sizes


def _step(axes, x: np.ndarray, total: int, style: dict, label: str) -> None:
  """The share of tasks with a value at or below each abscissa."""
  x = np.sort(x[np.isfinite(x)])
  share = np.arange(1, len(x) + 1) / total
  x, share = np.r_[x[:1], x], np.r_[[0.0][: len(x)], share]
  axes.step(x, share, where="post", label=label, **style)


def _subplots(rows, columns, width, height, sharey=True):
  return plt.subplots(
    rows,
    columns,
    figsize=(width, height),
    sharey=sharey,
    squeeze=False,
    layout="constrained",
  )


def _finish(figure, file: pathlib.Path) -> None:
  figure.savefig(file, dpi=110)
  plt.close(figure)


def profiles(
  folder: pathlib.Path, summary: dict, name: str, groups: tuple[str, ...]
) -> None:
  """Dolan-Moré (above) and data profiles (below), one column per target."""
  taus = targets.TAUS
  figure, axes = _subplots(2, len(taus), 14, 8)
  for column, tau in enumerate(taus):
    shown, sizes = _counts(summary, tau, groups)
    if not shown:
      continue
    least = np.min(list(shown.values()), axis=0)
    for style, counts in shown.items():
      known = np.isfinite(least)
      ratio = np.where(known, counts / np.where(known, least, 1), np.inf)
      total, kind = len(counts), _styles()[style]
      _step(axes[0, column], ratio, total, kind, style[0])
      per_size = counts / (1 + sizes)
      _step(axes[1, column], per_size, total, kind, style[0])
    axes[0, column].set(
      title=f"within {tau:g} of the best loss ({len(sizes)} tasks)",
      xlabel="true gradients / fewest of any method",
      xscale="log",
      ylim=(0, 1.02),
    )
    axes[1, column].set(xlabel="true gradients / (variables + 1)", xscale="log")
  for row in axes:
    row[0].set_ylabel("share of tasks solved")
    for one in row:
      one.grid(alpha=0.3)
  if axes[0, 0].get_legend_handles_labels()[0]:
    axes[0, 0].legend(fontsize=8)
  _finish(figure, folder / f"profiles_{name}.png")


def bars(folder: pathlib.Path, summary: dict) -> None:
  """True gradients to the middle target, base beside prediction, by task."""
  tasks = {
    name: task
    for name, task in summary["tasks"].items()
    if analysis.group(name, task) == "reporting" and _MIDDLE in task["taus"]
  }
  figure, (axes,) = _subplots(1, len(_COLOURS), 14, 1.2 + 0.36 * len(tasks))
  place = np.arange(len(tasks))
  for one, (base, colour) in zip(axes, _COLOURS.items(), strict=True):
    for shift, (method, mode, alpha, label) in enumerate(
      (
        (base, "tuned", 0.35, "tuned"),
        (f"{base}+predict", "drop_in", 0.7, "+ prediction, same rate"),
        (f"{base}+predict", "tuned", 1.0, "+ prediction, own rate"),
      )
    ):
      rows = [analysis.row(t, method, mode, _MIDDLE) for t in tasks.values()]
      counts = [r["median"] if r else None for r in rows]
      at = place + 0.27 * (shift - 1)
      one.barh(
        at,
        [c or 0 for c in counts],
        0.25,
        color=colour,
        alpha=alpha,
        label=label,
      )
      for y, r, c in zip(at, rows, counts, strict=True):
        if r and c is None:
          one.plot(1, y, "x", color=colour, ms=4)
    one.set(title=base, xscale="log", xlabel="true gradients to 1e-3 (x: miss)")
    one.set_xlim(left=0.9)
    one.grid(axis="x", alpha=0.3)
  axes[0].set_yticks(place, list(tasks), fontsize=8)
  axes[0].set_ylim(len(tasks) - 0.4, -0.6)
  handles, labels = axes[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside upper center", ncols=3)
  _finish(figure, folder / "evaluations.png")


def savings(folder: pathlib.Path, summary: dict) -> None:
  """Sorted ratios of true gradients per base, at both rates."""
  figure, (axes,) = _subplots(1, 2, 11, 4)
  groups = ("reporting", "cutest")
  for one, mode in zip(axes, analysis.MODES, strict=True):
    for base, colour in _COLOURS.items():
      found = analysis.against_base(summary, base, mode, _MIDDLE, groups)
      ratios = sorted(min(c.ratio, 3.0) for c in found)
      x = np.linspace(0, 1, max(len(ratios), 2))[: len(ratios)]
      one.plot(x, ratios, ".-", color=colour, label=f"{base} ({len(ratios)})")
    one.axhline(1, color="black", lw=0.8)
    title = {"drop_in": "at the base's best rate", "tuned": "at its own"}[mode]
    one.set(title=title, xlabel="share of tasks", yscale="log")
    one.grid(alpha=0.3, which="both")
    one.legend()
  axes[0].set_ylabel("true gradients / tuned base (3: miss)")
  _finish(figure, folder / "savings.png")


def _by_batch(name: str) -> tuple[str, int]:
  task, batch = name.rsplit("@", 1)
  return task, int(batch)


def _cells(summary: dict, base: str, mode: str):
  """Batch size rows of the regime map: shares and savings by quarter.

  A row of NaN is of a base that was not run there.
  """
  shares, savings = [], []
  for name in sorted(summary["noisy"], key=_by_batch):
    found = analysis.noisy(summary["noisy"][name], base, mode)
    unknown = [math.nan] * 4
    shares.append(found.share if found else unknown)
    savings.append([min(s, 2.0) for s in found.saving] if found else unknown)
  return np.array(shares), np.array(savings)


def regime_map(folder: pathlib.Path, summary: dict) -> None:
  """Batch size x progress: share of predicted steps, and true gradients."""
  names = sorted(summary["noisy"], key=_by_batch)
  labels = [name.removeprefix("noisy/") for name in names]
  bases = [
    base
    for base in analysis.BASES
    if np.isfinite(_cells(summary, base, "drop_in")[0]).any()
  ]
  if not bases:
    return
  figure, axes = _subplots(2, len(bases), 4.6 * len(bases), 8, sharey=False)
  for column, base in enumerate(bases):
    shares, savings = _cells(summary, base, "drop_in")
    for one, values, cmap, limits, title in (
      (axes[0, column], shares, "Blues", (0, 1), "share predicted"),
      (axes[1, column], savings, "RdYlGn_r", (0, 2), "gradients / base"),
    ):
      image = one.imshow(
        values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto"
      )
      for (y, x), value in np.ndenumerate(values):
        label = "" if math.isnan(value) else f"{value:.2f}"
        one.text(x, y, label, ha="center", va="center", fontsize=8)
      one.set_xticks(range(4), ["25 %", "50 %", "75 %", "100 %"])
      one.set_yticks(range(len(labels)), labels if column == 0 else [])
      one.set(title=f"{base}: {title}", xlabel="progress")
      figure.colorbar(image, ax=one, fraction=0.05)
  _finish(figure, folder / "regime_map.png")


def write(folder: pathlib.Path, summary: dict) -> None:
  """Writes every figure that the summary has data for."""
  if summary["tasks"]:
    profiles(folder, summary, "reporting", ("reporting",))
    profiles(folder, summary, "cutest", ("cutest",))
    bars(folder, summary)
    savings(folder, summary)
  regime_map(folder, summary)
