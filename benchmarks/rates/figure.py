"""True gradients against the learning rate: the valley and the flat line."""

import pathlib

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.methods import opponents
from benchmarks.methods import targets
from benchmarks.rates import plan
from benchmarks.rates import ratios

_TAU = targets.TAUS[1]
_SEARCH = "scipy_lbfgs"
_GROUP = "reporting"


def _panels() -> list[tuple[str, str, dict[str, float], str]]:
  """Title, base, rates and what the abscissa is called."""
  titles = {"sgd": "SGD", "momentum": "momentum", "adam": "Adam"}
  relative = "learning rate / best of the optimizer alone"
  panels = [(titles[b], b, plan.SHARES, relative) for b in opponents.BASES]
  panels.append(("Adam", "adam", plan.ABSOLUTE, "learning rate"))
  return panels


def _band(axes, x, curves, top: float, style: dict, label: str) -> None:
  """The median over tasks and the middle half of them."""

  def at(share):
    return [min(ratios.quantile(c, share), top) for c in curves]

  axes.fill_between(x, at(0.25), at(0.75), color=style["color"], alpha=0.15)
  axes.plot(x, at(0.5), label=label, **style)


def _panel(axes, found: dict, base: str, rates: dict[str, float]) -> int:
  """One panel of the rates that were run; returns how many tasks are in it."""
  members = ratios.members(found, _GROUP).values()

  def run(method):
    columns = [ratios.Column(method, label) for label in rates]
    return [
      c for c in columns if any(ratios.counts(t, c, _TAU) for t in members)
    ]

  alone, ours = run(base), run(f"{base}+accelerate")
  search = [ratios.search(_SEARCH)]
  curves = ratios.curves(found, [*alone, *ours, *search], _TAU, _GROUP)
  if not curves or not ours:
    return 0
  top = 1.25 * max(task["budget"] for task in members)
  ends = [rates[ours[0].label], rates[ours[-1].label]]
  black = {"color": "black", "ls": "-."}
  _band(axes, ends, curves[-1:] * 2, top, black, "L-BFGS-B")
  grey = {"color": "C7", "ls": "--", "marker": "o", "ms": 3}
  bold = {"color": "C3", "lw": 2.5, "marker": "o", "ms": 4}
  split = len(alone)
  for columns, part, style, label in (
    (alone, curves[:split], grey, "alone"),
    (ours, curves[split:-1], bold, "with prediction"),
  ):
    if columns:
      x = [rates[column.label] for column in columns]
      _band(axes, x, part, top, style, label)
  ticks = [10, 30, 100, 300]
  axes.set(xscale="log", yscale="log", ylim=(5, 1.12 * top))
  axes.set_yticks([*ticks, top], [*map(str, ticks), "miss"])
  axes.minorticks_off()
  axes.grid(alpha=0.3)
  return len(curves[0])


def draw(found: dict, file: pathlib.Path) -> None:
  """Writes the figure; a panel without data stays empty."""
  panels = _panels()
  figure, axes = plt.subplots(
    1, len(panels), figsize=(14, 4.2), sharey=True, layout="constrained"
  )
  for one, (title, base, rates, name) in zip(axes, panels, strict=True):
    tasks = _panel(one, found, base, rates)
    one.set(title=f"{title} ({tasks} tasks)", xlabel=name)
  axes[0].set_ylabel(f"true gradients to {_TAU:g} of the gap")
  handles, labels = max(
    (one.get_legend_handles_labels() for one in axes), key=lambda x: len(x[0])
  )
  if handles:
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
  figure.savefig(file, dpi=110)
  plt.close(figure)
