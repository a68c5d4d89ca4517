import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.ablation import __main__ as command
from benchmarks.ablation import page as table
from benchmarks.ablation import runs
from benchmarks.reliability import families
import optax_predict

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_the_docs_hold_the_table_of_the_json():
  found = json.loads(command.RESULTS.read_text())
  page = command.DOCS.read_text()
  assert table.text(found) in page
  assert table.fill(page, found) == page


def test_published_runs_are_of_every_setting_and_not_of_the_published_seed():
  found = json.loads(command.RESULTS.read_text())
  assert tuple(found["bases"]) == runs.BASES
  for cells in found["bases"].values():
    assert list(cells) == list(runs.SETTINGS)
    assert all(cell["runs"] >= 200 for cell in cells.values())
  published = command.DOCS.parent / "reliability.json"
  size = json.loads(published.read_text())["size"]
  assert found["size"]["seed"] == runs.SIZE.seed != size["seed"]


def test_every_setting_can_be_built():
  buffers = {}
  for name, make in runs.SETTINGS.items():
    leaves = jax.tree.leaves(make(optax.identity()).init(jnp.zeros(17)))
    buffers[name] = sum(leaf.shape == (17,) for leaf in leaves)
  assert len(buffers) == 32
  assert buffers["memory=20"] - buffers["memory=2"] == 20 - 2
  assert buffers["default"] - buffers["memory=5"] == 10 - 5
  assert buffers["directions=20"] - buffers["directions=4"] == 20 - 4
  assert buffers["default"] - buffers["max_error=none"] == 1


def cell(ratio, harmed=0, lost=0):
  return {
    "log_ratio": math.log(ratio),
    "counted": 10,
    "harmed": harmed,
    "lost": lost,
    "runs": 5,
  }


FOUND = {
  "made": {
    "date": "2020-01-02",
    "optax_predict": "1.2",
    "versions": {"jax": "3.4"},
  },
  "size": {"problems": 5, "seed": 7},
  "bases": {
    "sgd": {"default": cell(0.25), "memory=3": cell(1.0, 3, 2)},
    "adam": {"default": cell(1.0, 1), "memory=3": cell(1.0)},
  },
}


def test_the_table_by_hand():
  lines = table.text(FOUND).splitlines()
  assert "| default | **0.500** | 0.250 | 1.000 | 5.0% | 0 |" in lines
  assert "| memory=3 | **1.000** | 1.000 | 1.000 | 15.0% | 2 |" in lines
  assert "10 runs per line: 5 problems of seed 7" in lines[-1]
  page = "before\n<!-- ablation -->\nold\n<!-- /ablation -->\nafter\n"
  filled = table.fill(page, FOUND)
  assert lines[2] in filled and "old" not in filled
  assert filled.startswith("before\n") and filled.endswith("\nafter\n")
  assert table.fill(filled, FOUND) == filled


def test_the_figure_is_drawn(tmp_path):
  table.draw(FOUND, tmp_path / "memory.png")
  assert (tmp_path / "memory.png").stat().st_size > 10_000


def test_summary_by_hand():
  ratios = {"0.1": [9.0] * 3, "0.01": [0.5, 1.2, math.nan]}
  rate = {"lost": [4], "predicted_steps": [1, 2, 3]}
  half = rate | {"ratios": ratios | {"0.001": [1.0, math.inf, 1.0]}}
  whole = rate | {"ratios": ratios | {"0.001": [2.0] * 3}}
  found = runs.summary({"a": half, "b": whole})
  logs = np.log([0.5, 1.2, 1, 2, 1, 0.5, 1.2, 2, 2, 2])
  np.testing.assert_allclose(found["log_ratio"], np.mean(logs))
  assert found["counted"] == 10 and found["harmed"] == 6
  assert found["lost"] == 2 and found["runs"] == 6


def test_a_setting_runs_in_closed_loop():
  size = runs.SIZE._replace(
    count=2, horizon=30, grid=(0.1, 1.0), chosen=families.named(("quadratic",))
  )
  names = ["forecaster momentum", "memory=2"]
  found = runs.measure("sgd", names, size)
  assert list(found) == names
  assert all(each["runs"] == 4 for each in found.values())
  assert found["memory=2"]["log_ratio"] < math.log(0.9)
  assert found["memory=2"]["lost"] == 0


@pytest.mark.parametrize("option", ["max_growth", "max_expected_error"])
def test_none_lifts_a_limit(monkeypatch, option):
  given = {}
  monkeypatch.setattr(
    optax_predict,
    "accelerate",
    lambda base, forecaster=None, horizon=None: given.update(horizon=horizon),
  )
  runs.SETTINGS["max_expected_error=0.4, no trust"](None)
  assert given["horizon"].trust is None
  runs.SETTINGS[f"{option}=none"](None)
  assert given["horizon"].trust is not None
  for limit in ("max_growth", "max_expected_error"):
    assert (getattr(given["horizon"], limit) is None) == (limit == option)
