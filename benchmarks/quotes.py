"""Numbers for README and docs, so that none of them is typed by hand.

A quoted number stands between two comments that a reader does not see:

  <!--result:momentum.tuned.median-->0.48<!--/result-->

`python -m benchmarks quote` lists the keys, `python -m benchmarks quote
README.md` fills them in, and a test fails when a file and the JSON disagree.
"""

import re

from benchmarks import analysis
from benchmarks import opponents
from benchmarks import report
from benchmarks import targets

_SPAN = re.compile(r"(<!--result:([\w.]+)-->)(.*?)(<!--/result-->)", re.S)
_GROUPS = ("reporting", "cutest")
_TAU = targets.TAUS[1]


def values(summary: dict) -> dict[str, str]:
  """Key -> text. Ratios are true gradients over the tuned base's, to 1e-3."""
  found = {"tasks": str(len(summary["tasks"]))}
  for base in analysis.BASES:
    for mode in analysis.MODES:
      compared = analysis.against_base(summary, base, mode, _TAU, _GROUPS)
      if compared:
        ratios = [c.ratio for c in compared]
        median, worst = analysis.median(compared), max(ratios)
        harmed = sum(r > analysis.HARM for r in ratios)
        found |= {
          f"{base}.{mode}.median": report.number(median),
          f"{base}.{mode}.saving": f"{1 - median:.0%}",
          f"{base}.{mode}.worst": report.number(worst),
          f"{base}.{mode}.harmed": str(harmed),
          f"{base}.{mode}.tasks": str(len(ratios)),
        }
    for other in opponents.LINE_SEARCH:
      compared = analysis.compare(
        summary,
        (f"{base}+predict", "tuned"),
        (other, "tuned"),
        _TAU,
        lambda name, task: analysis.group(name, task) in _GROUPS,
      )
      if compared:
        found[f"{base}.{other}.median"] = report.number(
          analysis.median(compared)
        )
  return found


def fill(text: str, found: dict[str, str]) -> str:
  """The text with every span filled; an unknown key is a KeyError."""
  return _SPAN.sub(lambda m: m[1] + found[m[2]] + m[4], text)
