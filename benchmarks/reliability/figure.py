"""The figure: how the ratios are distributed, beside the control's."""

import pathlib
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
import numpy as np

_MISS = 4.0


def draw(results: dict[str, Any], file: pathlib.Path) -> None:
  """One panel per target: share of runs at or below each ratio."""
  taus = results["taus"]
  figure, axes = plt.subplots(
    1, len(taus), figsize=(12, 4), sharey=True, layout="constrained"
  )
  for axis, tau in zip(np.atleast_1d(axes), taus):
    for number, (name, settings) in enumerate(results["optimizers"].items()):
      for label, line in zip(settings, ("-", ":")):
        ratios = settings[label]["targets"][tau]["ratios"]
        _step(axis, ratios, f"C{number}", line, f"{name}, {label}")
    controls = [
      ratio
      for settings in results["optimizers"].values()
      for setting in settings.values()
      for ratio in setting["targets"][tau]["control"]
    ]
    _step(axis, controls, "black", "--", "base alone, start moved by 1e-4")
    axis.axvline(1, color="grey", lw=0.5)
    axis.set(
      xscale="log",
      xlim=(0.03, _MISS),
      ylim=(0, 1.01),
      title=f"target {tau} of the way left",
      xlabel="true gradients, relative to the base alone",
    )
    axis.set_xticks([0.03, 0.1, 0.3, 1, 3], ["0.03", "0.1", "0.3", "1", "3"])
  np.atleast_1d(axes)[0].set_ylabel("share of runs")
  np.atleast_1d(axes)[0].legend(fontsize=6)
  figure.savefig(file, dpi=110)
  plt.close(figure)


def _step(axis, ratios, colour, line, label):
  x = np.sort([r for r in ratios if r is not None])
  share = np.arange(1, len(x) + 1) / max(len(ratios), 1)
  axis.step(x, share, color=colour, ls=line, lw=1, where="post", label=label)
