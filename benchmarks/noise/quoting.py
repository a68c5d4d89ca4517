"""What README and docs may quote of results/noise.json."""

from benchmarks.noise import page
from benchmarks.noise import plan
from benchmarks.noise import verdicts


def token(row: str) -> str:
  """A row as part of a key."""
  return row.replace("+", "_").replace(".", "")


def values(found: dict) -> dict[str, str]:
  """Key -> text.

  ``noise.screen.<row>``: steps saved in the first stage; ``noise.<row>``: in
  the second, or that it was not in it, with ``.low``, ``.high`` and ``.worst``;
  ``noise.<row>.against``: of the best opponent's steps; ``noise.opponent``: its
  name, and what it ``.saved``; ``noise.passing``: how many candidates pass the
  rule; ``noise.candidates``: of how many rows.
  """
  listed = [row for m in plan.screened() for row in plan.rows(m)]
  texts = {
    f"noise.screen.{token(row)}": page.percent(page.screened_gain(found, row))
    for row in listed
  }
  candidates = [row for row in listed if verdicts.is_candidate(row)]
  texts["noise.candidates"] = str(len(candidates))
  texts |= {f"noise.{token(row)}": "not in it" for row in listed}
  return texts | (_compared(found) if found["finals"] else {})


def _compared(found: dict) -> dict[str, str]:
  opponent = verdicts.best_opponent(found)
  texts = {
    "noise.opponent": opponent,
    "noise.opponent.saved": page.percent(verdicts.steps(found, opponent).mean),
    "noise.passing": str(len(verdicts.passing(found))),
  }
  for row in verdicts.rows(found):
    if row == plan.BASE:
      continue
    key = f"noise.{token(row)}"
    gain = verdicts.steps(found, row)
    texts |= {
      key: page.percent(gain.mean),
      f"{key}.low": page.percent(gain.low),
      f"{key}.high": page.percent(gain.high),
      f"{key}.worst": page.percent(gain.worst),
    }
    against = verdicts.steps(found, row, against=opponent)
    texts[f"{key}.against"] = page.percent(against.mean)
  return texts
