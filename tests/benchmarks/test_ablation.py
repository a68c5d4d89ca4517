import json
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import ablation
from benchmarks import ablation_runs
from benchmarks import running
from benchmarks import tasks
import optax_predict


def test_the_docs_hold_the_table_of_the_json():
  found = json.loads(ablation.RESULTS.read_text())
  page = ablation.DOCS.read_text()
  assert ablation.text(found) in page
  assert ablation.fill(page, found) == page


def test_cells_in_the_json_are_of_tuning_tasks():
  found = json.loads(ablation.RESULTS.read_text())
  for key, cell in found["cells"].items():
    name, _ = key.rsplit("/", 1)
    assert name in tasks.names("tuning")
    assert set(cell["counts"]) <= set(ablation_runs.SETTINGS)


def test_every_setting_can_be_built():
  buffers = {}
  for name, make in ablation_runs.SETTINGS.items():
    leaves = jax.tree.leaves(make().init(jnp.zeros(17)))
    buffers[name] = sum(leaf.shape == (17,) for leaf in leaves)
  assert len(buffers) == 22
  assert buffers["memory=20"] - buffers["memory=3"] == 2 * (20 - 3)
  assert buffers["default"] - buffers["memory=5"] == 2 * (10 - 5)


def cell(base, **counts):
  return {"rate": 1.0, "levels": [0.0] * 3, "base": base, "counts": counts}


FOUND = {
  "made": {
    "date": "2020-01-02",
    "optax_predict": "1.2",
    "versions": {"jax": "3.4"},
  },
  "cells": {
    "one/sgd": cell([10, 20, 30], default=[5, 40, 10]),
    "one/adam": cell([100, 100, 100], default=[None, 108, 1]),
    "two/sgd": cell([10, 10, 10], default=[None, None, 1]),
  },
}


def test_ratios_are_of_medians_and_no_more_than_two():
  assert ablation.ratios(FOUND, "default") == [0.5, 1.08, 2.0]
  assert ablation.ratios(FOUND, "default", "sgd") == [0.5, 2.0]
  assert ablation.ratios(FOUND, "memory=3") == []


def test_the_table_by_hand():
  overall = statistics.geometric_mean([0.5, 1.08, 2.0])
  line = f"| default | **{overall:.2f}** | 1.00 |  | 1.08 | 2 | 3 |"
  assert line in ablation.text(FOUND).splitlines()
  page = "before\n<!-- ablation -->\nold\n<!-- /ablation -->\nafter\n"
  filled = ablation.fill(page, FOUND)
  assert line in filled and "old" not in filled
  assert filled.startswith("before\n") and filled.endswith("\nafter\n")
  assert ablation.fill(filled, FOUND) == filled


_SCALES = np.array([1.0, 0.3, 0.1], np.float32)


@pytest.fixture(name="problem")
def _problem():
  task = tasks.Task(
    "tiny",
    "tests",
    lambda seed: jnp.ones(3) * (1 + seed),
    lambda x: 0.5 * jnp.sum(_SCALES * x**2),
    40,
    "tuning",
  )
  return running.Problem(task)


def test_a_cell_is_run_once_and_goes_on(problem, monkeypatch, tmp_path):
  monkeypatch.setattr(ablation_runs, "_problem", lambda name: problem)
  setting = "forecaster momentum"
  found, saved = {"cells": {}}, []

  def run(settings):
    ablation_runs.run_cell(
      found, "tiny", "sgd", settings, lambda x: saved.append(str(x))
    )

  run([setting])
  counted = found["cells"]["tiny/sgd"]
  assert len(counted["counts"][setting]) == len(counted["base"]) == 3
  # The base's own count, with its run repeated here.
  for seed, (level, count) in enumerate(
    zip(counted["levels"], counted["base"], strict=True)
  ):
    x, n = np.ones(3) * (1 + seed), 1
    while 0.5 * np.sum(_SCALES * x**2) > level:
      x, n = x - counted["rate"] * _SCALES * x, n + 1
    assert abs(n - count) <= 1
  run([setting])
  assert len(saved) == 1
  file = tmp_path / "ablation.json"
  ablation._save(file, found)
  assert json.loads(file.read_text()) == found


def test_a_run_ends_at_the_level_or_after_the_most(problem):
  run = lambda level, most: ablation_runs.count(  # noqa: E731
    problem, "forecaster momentum", "sgd", 0.5, 0, level, most
  )
  start = float(problem.value_and_grad(problem.start(0))[0])
  assert run(start, 40) == 1
  reached = run(0.01 * start, 40)
  assert 2 < reached < 40
  assert run(0.01 * start, reached) == reached
  assert run(0.01 * start, reached - 1) is None
  assert run(-1.0, 5) is None


def test_none_lifts_a_limit(monkeypatch):
  given = {}
  monkeypatch.setattr(
    optax_predict,
    "predict_gradients",
    lambda forecaster=None, horizon=None: given.update(horizon=horizon),
  )
  ablation_runs.SETTINGS["max_growth=none"]()
  assert given["horizon"].max_growth is None
  assert given["horizon"].max_expected_error is not None
