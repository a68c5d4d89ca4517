import math

import pytest

from benchmarks import markdown
from benchmarks.savings import analysis
from benchmarks.savings import report


def _summary(counts):
  """One task per pair of median counts (with prediction, base)."""
  tasks = {}
  for i, (ours, theirs) in enumerate(counts):
    rows = [
      {"method": m, "mode": "tuned", "tau": 1e-3, "median": c}
      for m, c in (("sgd+predict", ours), ("sgd", theirs))
    ]
    tasks[f"t{i}"] = {"role": "reporting", "budget": 200, "rows": rows}
  return {"tasks": tasks, "noisy": {}}


def test_ratios_misses_and_upper_bounds():
  found = analysis.against_base(
    _summary([(50, 100), (None, 100), (50, None), (None, None)]),
    "sgd",
    "tuned",
    1e-3,
    ("reporting",),
  )
  assert [c.ratio for c in found] == [0.5, math.inf, 0.25]
  assert analysis.median(found) == 0.5
  assert analysis.worst(found).task == "t1"


def test_a_profile_is_behind_where_fewer_are_solved():
  counts = [(5, 2), (7, 3), (4, 8), (None, 9), (2, None), (None, None)]
  # Solved by 2, 3, ... 9 gradients: ours 1 1 2 3 3 4 4 4, theirs 1 2 2 2 2 2 3 4.
  found = analysis.lag(_summary(counts), "sgd", "tuned", 1e-3, ("reporting",))
  assert found == analysis.Lag(budgets=1, tasks=1, at=3)
  ahead = _summary([(2, 5), (3, 7)])
  found = analysis.lag(ahead, "sgd", "tuned", 1e-3, ("reporting",))
  assert found == analysis.Lag(budgets=0, tasks=0, at=None)


def test_networks_are_those_of_their_families():
  summary = _summary([(20, 100), (60, 100), (90, 100)])
  for name, family in (("t0", "networks"), ("t1", "lora"), ("t2", "inverse")):
    summary["tasks"][name]["family"] = family
  assert report._headline_networks(summary, "reporting") == (
    "- **Networks on all their data** (t0, t1): median 0.40 at its own (2 pairs)."
  )
  assert "median 0.60 at its own (3 pairs" in report._headline_all(
    summary, "reporting"
  )


def test_other_groups_are_left_out():
  found = analysis.against_base(
    _summary([(50, 100)]), "sgd", "tuned", 1e-3, ("tuning",)
  )
  assert found == []


def _noisy_task(ours, theirs):
  rows = [
    {
      "method": method,
      "mode": mode,
      "evaluated": [10, 20, 30, 40],
      "losses": losses,
      "predicted": [[0, 0, 0, 40]] * len(losses),
    }
    for method, mode, losses in (
      ("sgd", "tuned", theirs),
      ("sgd+predict", "drop_in", ours),
    )
  ]
  return {"rows": rows}


def test_noisy_pairs_by_seed():
  theirs = [[4.0, 2.0, 2.0, 2.0], [8.0, 4.0, 4.0, 4.0]]
  ours = [[2.0, 1.0, 1.0, 1.0], [4.0, 2.0, 2.0, 2.0]]
  found = analysis.noisy(_noisy_task(ours, theirs), "sgd", "drop_in")
  assert found.loss_ratio == pytest.approx(0.5)
  assert found.low == pytest.approx(found.high)
  assert found.share == [0, 0, 0, 0.5]
  assert found.saving == [1.0, 0.5, 0.5, 0.5]


def test_a_diverged_seed_is_infinite_harm():
  found = analysis.noisy(
    _noisy_task([[1.0, 1.0, 1.0, None]] * 2, [[1.0] * 4] * 2),
    "sgd",
    "drop_in",
  )
  assert found.loss_ratio == math.inf


def test_tables_are_markdown():
  assert markdown.table(["a", "b"], [["1", "2"]]) == (
    "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
  )
