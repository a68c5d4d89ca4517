"""How often prediction harms on the tasks of the benchmark."""

import itertools
import json
import math
import pathlib
from typing import Any

from benchmarks.methods import targets
from benchmarks.savings import analysis

_SUMMARY = pathlib.Path(__file__).parents[1] / "results" / "summary.json"
_GROUPS = ("reporting", "tuning", "cutest")


def published() -> list[dict[str, Any]]:
  """Of the last full run of the benchmark."""
  return rows(json.loads(_SUMMARY.read_text()))


def rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
  """For every target, group of tasks, base optimizer and choice of the rate.

  Args:
    summary: of ``python -m benchmarks run``.

  Returns:
    Of the tasks that the base or prediction solved: how many there are,
    ``pairs``; those that needed more than ``analysis.HARM`` times the base's
    gradients, ``harmed``, of them not solved at all, ``missed``; the ``worst``
    of the others; those that only prediction solved, ``gained``.
  """
  found = []
  for tau, group, base, mode in itertools.product(
    targets.TAUS, _GROUPS, analysis.BASES, analysis.MODES
  ):
    pairs = analysis.against_base(summary, base, mode, tau, (group,))
    if pairs:
      ratios = [pair.ratio for pair in pairs]
      found.append(
        {
          "target": f"{tau:g}",
          "group": group,
          "base": base,
          "mode": mode,
          "pairs": len(ratios),
          "harmed": sum(r > analysis.HARM for r in ratios),
          "missed": sum(map(math.isinf, ratios)),
          "worst": max(filter(math.isfinite, ratios), default=None),
          "gained": sum(pair.theirs is None for pair in pairs),
        }
      )
  return found
