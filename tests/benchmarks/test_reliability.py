"""The reliability suite, tinier than --quick."""

import functools
import json
import math

import jax
import numpy as np
import pytest

from benchmarks.reliability import __main__ as command
from benchmarks.reliability import comparing
from benchmarks.reliability import families
from benchmarks.reliability import fault_table
from benchmarks.reliability import faults
from benchmarks.reliability import long_run
from benchmarks.reliability import on_tasks
from benchmarks.reliability import report
from benchmarks.reliability import running
from optax_predict import forecasters

pytestmark = pytest.mark.usefixtures("quick_compilation")

_SIZE = comparing.Size(
  count=3,
  horizon=25,
  grid=(0.1, 1.0),
  chosen=families.named(("quadratic", "noisy quadratic")),
)


@pytest.fixture(name="compared", scope="module")
def _compared():
  return comparing.compare("sgd", _SIZE)


def test_problems_are_the_same_for_every_count_and_choice():
  data, start = families.draw(2)
  some, few = families.draw(1, families.named(("rosenbrock",)))
  index = [f.name for f in families.FAMILIES].index("rosenbrock")
  np.testing.assert_array_equal(few[0], start[2 * index])
  np.testing.assert_array_equal(some[0]["steep"][0], data[index]["steep"][0])
  assert len(families.FAMILIES) * comparing.Size().count == 320


def test_every_loss_and_gradient_is_finite_at_its_start():
  data, start = families.draw(2)
  call = jax.jit(functools.partial(families.value_and_grad, families.FAMILIES))
  values, gradients = call(start, data, 0)
  assert values.shape == (2 * len(families.FAMILIES),)
  assert np.isfinite(values).all() and np.isfinite(gradients).all()
  assert np.all(np.linalg.norm(gradients, axis=1) > 0)


def test_prediction_saves_gradients_and_loses_nothing(compared):
  for found in compared.values():
    assert found["lost"] == found["control_lost"] == []
    assert np.median(found["targets"]["0.01"]["ratios"]) <= 1
    assert sum(found["predicted_steps"]) > 0
    # The control counts at most one gradient more or less.
    assert np.ptp(found["targets"]["0.1"]["control"]) < 0.5


def test_a_faster_base_is_the_base_at_a_higher_rate():
  # SGD at a third of the best rate: steps of twice the length, half as many.
  size = _SIZE._replace(chosen=families.named(("quadratic",)), horizon=100)
  base = comparing.alone("sgd", size)
  found = comparing.against(base, None, base.start, 2.0)["a third of it"]
  np.testing.assert_allclose(found["ratios"]["0.001"], 0.5, atol=0.05)


def _runs(losses):
  losses = np.array(losses, float).T
  count = losses.shape[1]
  return running.Runs(losses, np.zeros(count), np.ones(count, bool))


def test_lost_is_what_only_the_other_loses():
  base = _runs([[3, 2, 1], [3, 2, 1], [3, 4, 5], [3, 2, 1]])
  other = _runs([[3, 2, 1], [3, np.nan, 1], [3, 4, 5], [3, 2, 4]])
  assert comparing.lost(base, other, 3) == [1, 3]


def test_lost_later_is_what_the_base_alone_loses_too():
  size = _SIZE._replace(chosen=families.named(("quadratic",)), grid=(0.01,))
  base = comparing.alone("sgd", size)
  rates = base.rates["best rate"] * np.array([1, 1e6, 1e6], np.float32)
  base = base._replace(rates={"best rate": rates[: size.count]})
  assert comparing.lost_later(base, "best rate", [0, 1]) == [1]
  assert comparing.lost_later(base, "best rate", [0]) == []


def test_ratios_by_hand():
  base = _runs([[11, 6, 1, 1], [11, 6, 2, 1]])
  other = _runs([[11, 1, 1, 1], [11, 5, 5, 5]])
  np.testing.assert_array_equal(
    comparing.ratios(base, other, 0.1, 3), [2 / 3, np.inf]
  )


def test_relapses_by_hand():
  # The gap is 10: within 0.001 of it is 1.01 or less, 0.1 of it is 2.
  base = _runs([[11, 1, 1, 1]] * 5)
  other = _runs(
    [
      [11, 1, 1, 2.1],
      [11, 1, np.nan, 1],
      [11, 1, 1.9, 1],
      [11, 1.5, 3, 1],
      [11, 1.005, 1.5, 12],
    ]
  )
  assert comparing.relapses(base, other, 3) == [0, 1, 4]
  until = np.array([3, 2, 4, 4, 4])
  assert comparing.relapses(base, other, 3, until=until) == [4]


def test_relapses_for_two_gradients_by_hand():
  base = _runs([[11, 1, 1, 1, 1]] * 3)
  other = _runs([[11, 1, 3, 1, 3], [11, 1, 1, 3, np.nan], [11, 3, 3, 1, 1]])
  assert comparing.relapses(base, other, 3) == [0, 1]
  assert comparing.relapses(base, other, 3, at_least=2) == [1]


def test_the_base_alone_is_watched_for_as_many_steps(monkeypatch):
  """It leaves the second minimum after 20 gradients, the others after 250."""
  size = comparing.Size(horizon=3)
  short = _runs([[11, 1, 1, 1, 1, 1]] * 3)
  losses = np.ones([size.horizon * comparing.LONGEST, 3])
  losses[0], losses[20, 1], losses[250, [0, 2]] = 11, 11, 11
  long = short._replace(losses=losses)
  asked = []

  def runner(make, accelerate, budget, chosen):
    asked.append((accelerate, budget))
    return lambda *_: long

  monkeypatch.setattr(running, "runner", runner)
  base = comparing.Alone("sgd", size, None, None, {"r": None}, {"r": short})
  outcome = {
    "relapsed": [0, 2],
    "relapsed_longer": [2],
    # With the six true gradients: one more than until it leaves, and as many.
    "predicted_steps": [245, 0, 244],
  }
  found = comparing.find_relapses(base, "r", outcome)
  assert asked == [(None, 300)]
  assert found == {
    "with prediction": [0, 2],
    "for two gradients": [2],
    "alone": [],
    "alone, longer": [1],
    "alone, as many steps": [0],
  }


def test_harm_on_the_tasks_by_hand():
  def row(method, mode, median):
    return {"method": method, "mode": mode, "tau": 1e-3, "median": median}

  def task(alone, ours):
    rows = [row("sgd", "tuned", alone), row("sgd+predict", "drop_in", ours)]
    return {"role": "reporting", "budget": 100, "rows": rows}

  pairs = [(50, 20), (50, 53), (50, None), (None, 80), (None, None)]
  tasks = {f"task{i}": task(*pair) for i, pair in enumerate(pairs)}
  assert on_tasks.rows({"tasks": tasks}) == [
    {
      "target": "0.001",
      "group": "reporting",
      "base": "sgd",
      "mode": "drop_in",
      "pairs": 4,
      "harmed": 2,
      "missed": 1,
      "worst": 1.06,
      "gained": 1,
    }
  ]


def test_recovery_from_noise_is_counted_from_its_end():
  number, steps = faults.names().index("30 calls of noise"), np.zeros((1, 40))
  steps[:, 10:20] = 1
  steps[:, 20:] = 2
  steps[:, 35:] = 3
  case = faults.Case(np.array([number]), np.array([2]), np.ones(1))
  # It lasts from call 2 to 31; the next predicted step is at call 35.
  np.testing.assert_array_equal(fault_table.recovery(case, steps), [4])


def test_misses_are_listed_by_run():
  best = {"rates": [0.1, 0.2, 0.3]}
  best["targets"] = {
    tau: {"ratios": [math.inf, 1.0, ratio], "control": [1.0] * 3}
    for tau, ratio in (("0.1", 1.5), ("0.01", 1.0))
  }
  results = {
    "size": {"families": ["quadratic"], "count": 3},
    "optimizers": {"sgd": {"best rate": best}},
  }
  page = report._worst(results)
  assert "3 of all targets took more" in page and "2 of them are misses" in page
  assert "- quadratic 0, sgd, best rate: 0.1, 0.01\n" in page
  assert "| quadratic 2 | sgd | 0.3 (best rate) | 0.1 | 1.50 | 1.00 |" in page


def test_recovery_by_hand():
  number = faults.names().index("one NaN")
  case = faults.Case(np.array([number] * 3), np.array([2] * 3), np.ones(3))
  steps = np.array([[0, 1, 1, 1, 2], [0, 1, 1, 2, 3], [0, 1, 2, 2, 2]])
  found = fault_table.recovery(case, steps)
  np.testing.assert_array_equal(found, [2, 1, np.inf])


def test_long_run_keeps_its_statistics_and_its_size():
  rows = long_run.run(2000, 2, forecasters.secant(2))
  assert [row["steps"] for row in rows] == [1000, 2000]
  assert all(row["finite"] for row in rows)
  assert rows[0]["bytes"] == rows[1]["bytes"]
  assert rows[1]["predicted"] > 0.2
  assert abs(rows[1]["drift"]) < 1e-4


def test_page_and_figure_are_written(compared, tmp_path):
  ratios = {
    "ratios": [1.2, 1.0, 1.0, 1.0, 0.5, 1.1],
    "control": [1.0] * 6,
    "faster": [1.2, 1.2, math.inf, 1.0, 1.0, 0.9],
  }
  third = compared["a third of it"]
  third = third | {"targets": dict.fromkeys(third["targets"], ratios)}
  results = {
    "made": {
      "date": "2000-01-01",
      "device": "none",
      "versions": {"jax": "1", "optax": "2"},
    },
    "size": {
      "count": _SIZE.count,
      "horizon": _SIZE.horizon,
      "seed": _SIZE.seed,
      "grid": list(_SIZE.grid),
      "families": [f.name for f in _SIZE.chosen],
    },
    "taus": [f"{tau:g}" for tau in comparing.TAUS],
    "tasks": [
      {
        "target": "0.001",
        "group": "cutest",
        "base": "sgd",
        "mode": "tuned",
        "pairs": 9,
        "harmed": 2,
        "missed": 1,
        "worst": 1.5,
        "gained": 3,
      }
    ],
    "optimizers": {"sgd": compared | {"a third of it": third}},
    "faults": {"sgd": [_row(recovery_worst=None)]},
    "long_run": [],
    "jobs": 2,
    "seconds": 90.0,
  }
  best = results["optimizers"]["sgd"]["best rate"]
  best |= dict(lost=[4], lost_later=[4], not_finite=[4])
  best["relapsed"] = {
    "with prediction": [0, 1, 3, 4, 5],
    "for two gradients": [0, 1, 3, 4],
    "alone": [1],
    "alone, longer": [1, 2],
    "alone, as many steps": [1, 2, 4],
  }
  command.write(results, tmp_path)
  page = (tmp_path / "reliability.md").read_text()
  assert page == report.text(
    json.loads((tmp_path / "reliability.json").read_text())
  )
  assert "2 minutes in 2 processes" in page
  assert "**1 of 30 runs were lost with prediction" in page
  assert (
    "1 of the 1 the base alone loses later. 1 of all ended not finite" in page
  )
  assert "a third of it 16.7% (control 0.0%, 5% faster 50.0%)" in page
  assert "noisy quadratic 1" in page
  # Said of one run only, where it is among the lost.
  assert (
    "**Of 30 runs: 5 with prediction, 1 alone, 2 alone, longer. 4 with prediction"
    " only: 3 of them for two\ngradients, and 2 of those not alone in as many steps"
    " either.**" in page
  )
  assert "| 0.001 | CUTEst | sgd | its own | 9 | **2** | 1 | 1.50 | 3 |" in page
  assert "| zero | sgd | 3 | 3 | 2 | never | 0.5 |" in page
  assert (tmp_path / "reliability.png").stat().st_size > 10_000


def _row(**changed):
  row = {
    "fault": "zero",
    "cases": 3,
    "finite": 3,
    "recovery_median": 2.0,
    "recovery_worst": 5.0,
    "end_worst": 0.5,
  }
  return row | changed
