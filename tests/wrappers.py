"""Writes the tables of docs/compatibility.md from what the tests prove.

``python -m tests.wrappers docs/compatibility.md`` rewrites what stands between
the markers.
"""

import pathlib
import sys

from tests import test_optimizers
from tests import wrapper_cases


def table(head, rows):
  """A Markdown table."""
  lines = [head, ["---"] * len(head), *rows]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def wrapper_table():
  return table(
    ["Optimizer", "`fast_forward`", "`value_and_grad`", "Note"],
    [
      [case.name, case.fast_forward, case.per_step, case.note]
      for case in wrapper_cases.CASES
    ],
  )


def accelerated_table():
  return table(
    ["Optimizer", "Outcome", "Note"],
    [[c.name, c.outcome, c.note] for c in wrapper_cases.ACCELERATED],
  )


def optimizer_table():
  answers = {
    "predicts": test_optimizers.OPTIMIZERS,
    "predicts, with `value=loss` (`fast_forward` takes it too)": (
      test_optimizers.NEED_VALUE
    ),
    "error: it evaluates the loss itself": test_optimizers.NEED_VALUE_FN,
  }
  return table(
    ["`accelerate(optimizer)`", "Optimizers"],
    [[answer, ", ".join(sorted(names))] for answer, names in answers.items()],
  )


def written(text):
  """``text`` with all tables between their markers."""
  tables = {
    "accelerated": accelerated_table(),
    "wrappers": wrapper_table(),
    "optimizers": optimizer_table(),
  }
  for name, lines in tables.items():
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    text = f"{before}{begin}\n{lines}\n{end}{after}"
  return text


if __name__ == "__main__":
  path = pathlib.Path(sys.argv[1])
  path.write_text(written(path.read_text()))
