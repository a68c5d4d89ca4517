"""Numbers for README and docs, so that none of them is typed by hand.

A quoted number stands between two comments that a reader does not see:

  <!--result:momentum.tuned.median-->0.48<!--/result-->

`python -m benchmarks quote` lists the keys, `python -m benchmarks quote
README.md` fills them in, and a test fails when a file and the JSON disagree.
"""

import itertools
import json
import pathlib
import re

from benchmarks.methods import opponents
from benchmarks.methods import targets
from benchmarks.noise import quoting as noise_quoting
from benchmarks.rates import quoting
from benchmarks.savings import analysis
from benchmarks.savings import report

_SPAN = re.compile(r"(<!--result:([\w.]+)-->)(.*?)(<!--/result-->)", re.S)
_GROUPS = ("reporting", "cutest")
_TAU = targets.TAUS[1]


def published(folder: pathlib.Path) -> dict[str, str]:
  """Everything that can be quoted from a folder of results."""
  found = values(json.loads((folder / "summary.json").read_text()))
  rates = folder / "rates.json"
  if rates.exists():
    found |= quoting.values(json.loads(rates.read_text()))
  noise = folder / "noise.json"
  if noise.exists():
    found |= noise_quoting.values(json.loads(noise.read_text()))
  return found


def values(summary: dict) -> dict[str, str]:
  """Key -> text. Ratios are true gradients over the tuned base's, to 1e-3."""
  found = {}
  for group, base in itertools.product(_GROUPS, analysis.BASES):
    for mode in analysis.MODES:
      compared = analysis.against_base(summary, base, mode, _TAU, (group,))
      if compared:
        key = f"{group}.{base}.{mode}"
        ratios = [c.ratio for c in compared]
        median = analysis.median(compared)
        found |= {
          f"{key}.median": report.number(median),
          f"{key}.saving": f"{1 - median:.0%}",
          f"{key}.worst": report.number(max(ratios)),
          f"{key}.harmed": str(sum(r > analysis.HARM for r in ratios)),
          f"{key}.tasks": str(len(ratios)),
        }
    found |= _against_line_searches(summary, group, base)
  for group, mode in itertools.product(_GROUPS, analysis.MODES):
    compared = analysis.pooled(summary, mode, _TAU, (group,))
    pairs = [c.ratio for c in compared]
    found[f"{group}.{mode}.median"] = report.number(analysis.median(compared))
    found[f"{group}.{mode}.harmed"] = str(sum(r > analysis.HARM for r in pairs))
    found[f"{group}.{mode}.pairs"] = str(len(pairs))
  return found


def _against_line_searches(summary, group, base):
  found = {}
  for other in opponents.LINE_SEARCH:
    compared = analysis.compare(
      summary,
      (f"{base}+predict", "tuned"),
      (other, "tuned"),
      _TAU,
      lambda name, task: analysis.group(name, task) == group,
    )
    if compared:
      median = analysis.median(compared)
      found[f"{group}.{base}.{other}.median"] = report.number(median)
  return found


def fill(text: str, found: dict[str, str]) -> str:
  """The text with every span filled; an unknown key is a KeyError."""
  return _SPAN.sub(lambda m: m[1] + found[m[2]] + m[4], text)
