"""docs/gallery.md from gallery.json, so that no number in it is typed by hand."""

import math
from typing import Any

import numpy as np

# What the others took is level if it is at most a tenth less.
_LEVEL = 1.1
_COLAB = (
  "https://colab.research.google.com/github/optax-predict/optax_predict/blob"
  "/main/notebooks/"
)
_GITHUB = "https://github.com/optax-predict/optax_predict/blob/main/notebooks/"
# Notebook -> title, and what it is about, in two sentences.
NOTEBOOKS = {
  "gallery_inverse": (
    "An inverse problem through a wave solver",
    "Ultrasound tomography: which speed of sound explains what a ring of"
    " transducers heard? Every gradient goes back through all time steps of a"
    " 2-D wave equation, for all pulses.",
  ),
  "gallery_photonics": (
    "A photonic multilayer",
    "Thicknesses of thin films that reflect a wide band, by transfer matrices,"
    " from ten random starts at once under `jax.vmap`. Such losses have many"
    " minima, and it matters in which of them a start ends.",
  ),
  "gallery_pinn": (
    "Physics-informed networks",
    "Viscous Burgers and Allen-Cahn as losses, with the relative L2 error"
    " against reference solutions. Beside what the field uses, Adam and then"
    " L-BFGS.",
  ),
  "gallery_vqe": (
    "A variational quantum eigensolver",
    "The ground state of a molecule and of a spin chain with PennyLane, counted"
    " in circuits. With finite shots gradients are noise, and prediction is to"
    " rest.",
  ),
  "gallery_gaussian_process": (
    "A Gaussian process",
    "Hyperparameters of a gpjax model on real data by the exact marginal"
    " likelihood. Every gradient is a Cholesky factorization of all points.",
  ),
  "gallery_cluster": (
    "A cluster of atoms",
    "The geometry of a Lennard-Jones cluster with jax-md, from several random"
    " starts, beside FIRE and L-BFGS. The lowest known energies are those of"
    " the Cambridge Cluster Database.",
  ),
}


def ratio(record: dict[str, Any], role: str, key: str = "gradients") -> float:
  """The accelerated optimizer's cost over another's; infinite if it missed."""
  ours = record["runs"]["accelerated"][key]
  theirs = record["runs"][role][key]
  if ours is None:
    return math.inf
  return 0.0 if theirs is None else ours / theirs


def of_lbfgs(record: dict[str, Any]) -> float:
  """The accelerated optimizer's gradients over those of the better L-BFGS."""
  return max(ratio(record, "scipy"), ratio(record, "optax"))


def _number(value):
  if math.isinf(value):
    return "misses"
  return "only it" if value == 0 else f"{value:.2f}"


def _table(found):
  lines = [
    "| problem | a gradient takes | the tutorial's optimizer: its gradients"
    " | of the tutorial's | of the tuned"
    " | of the better L-BFGS | time, of the tutorial's |",
    "| --- | --- | --- | --- | --- | --- | --- |",
  ]
  for record in found.values():
    first = record["runs"]["tutorial"]
    small = "" if record.get("full", True) else " (small size)"
    cells = [
      record["problem"] + small,
      _duration(first["total_seconds"] / first["total_gradients"]),
      f"{first['name']}: {first['gradients']:.0f}",
      f"**{_number(ratio(record, 'tutorial'))}**",
      _number(ratio(record, "tuned")),
      _number(of_lbfgs(record)),
      _number(ratio(record, "tutorial", "seconds")),
    ]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def _duration(seconds):
  return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"


def _median(values):
  middle = float(np.median(values))
  return "a miss" if math.isinf(middle) else f"{middle:.2f}"


def _wanted(found):
  """What was asked for before it was measured, and what came out."""
  records = list(found.values())
  count = len(records)
  level = sum(of_lbfgs(r) <= _LEVEL for r in records)
  faster = sum(ratio(r, "tutorial", "seconds") < 1 for r in records)
  tutorial = [ratio(r, "tutorial") for r in records]
  tuned = [ratio(r, "tuned") for r in records]
  rows = [
    (
      "gradients, of the tutorial's optimizer as it stands, median",
      "at most 0.35",
      _median(tutorial),
      np.median(tutorial) <= 0.35,
    ),
    (
      "gradients, of the tutorial's optimizer tuned, median",
      "at most 0.6",
      _median(tuned),
      np.median(tuned) <= 0.6,
    ),
    (
      "level with the better L-BFGS (a tenth more at most) or ahead",
      "half of them",
      f"{level} of {count}",
      2 * level >= count,
    ),
    (
      "ahead of the tutorial's in time",
      "five of six",
      f"{faster} of {count}",
      6 * faster >= 5 * count,
    ),
  ]
  lines = ["| | wanted | measured | |", "| --- | --- | --- | --- |"]
  for *cells, is_so in rows:
    verdict = "yes" if is_so else "**no**"
    lines.append(f"| {' | '.join(cells)} | {verdict} |")
  return "\n".join(lines)


def _losses(found):
  """Where something else was better, in words."""
  lines = []
  for record in found.values():
    problem, runs = record["problem"], record["runs"]
    if math.isinf(ratio(record, "tutorial")):
      given = runs["accelerated"]["total_gradients"]
      lines.append(
        f"- {problem}: the accelerated optimizer does not get there in the"
        f" {given:,.0f} gradients that it was given."
      )
      continue
    if ratio(record, "tuned") > 1:
      lines.append(f"- {problem}: tuned, the optimizer alone needs fewer.")
    if of_lbfgs(record) > _LEVEL:
      better = max(("scipy", "optax"), key=lambda role: ratio(record, role))
      lines.append(
        f"- {problem}: {runs[better]['name']} needs"
        f" {runs[better]['gradients']:.0f}, the accelerated optimizer"
        f" {runs['accelerated']['gradients']:.0f}."
      )
    if ratio(record, "tutorial", "seconds") >= 1:
      lines.append(
        f"- {problem}: it takes longer than the tutorial's optimizer."
      )
  return "\n".join(lines) or "Nowhere."


def _entry(name):
  title, about = NOTEBOOKS[name]
  return f"""### {title}

[![{title}](gallery/{name}.png)]({_GITHUB}{name}.ipynb)

{about} [Read]({_GITHUB}{name}.ipynb) or [run it in Colab]({_COLAB}{name}.ipynb)."""


def text(found: dict[str, Any]) -> str:
  """The page."""
  names = dict.fromkeys(record["notebook"] for record in found.values())
  devices = sorted({r["made"]["device"] for r in found.values()})
  entries = "\n\n".join(_entry(name) for name in names)
  return f"""# Gallery

Written by `python -m benchmarks gallery`; do not edit.

Problems whose gradients are exact and, most of them, expensive. Each with the
optimizer and the rate of a tutorial of its field; the same at the best of a grid of
rates; L-BFGS, with every evaluation of its line search counted; and the tutorial's
optimizer with `accelerate`, nothing tuned. The notebooks keep their figures, so that
they can be read without running them.

How many true gradients, and how much time without compiling, until the loss with
which the tutorial's optimizer ended: the accelerated optimizer's, relative to the
others'. "Only it": the other does not get there. "Misses": the accelerated one does
not, in as many gradients as are named under "Where it loses". Medians where there are
several starts.

{_table(found)}

Times are of one process on {", ".join(devices)}, with other work beside it. Those of
the spins hold what the circuits of parameter shift take in the simulator, all starts
one after the other.

## What was wanted

{_wanted(found)}

## Where it loses

{_losses(found)}

## The notebooks

{entries}
"""
