"""The table and the figure of the ablation."""

import math
import pathlib
import re

from benchmarks import markdown
from benchmarks.ablation import runs

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
  count = sum(found["bases"][base]["default"]["runs"] for base in bases)
  head = ["change", "all", *bases, f"above {runs.HARM}", "lost"]
  return (
    f"{markdown.table(head, rows)}\n"
    f"{count} runs per line: {size['problems']} problems of seed {size['seed']},"
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
