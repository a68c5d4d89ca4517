"""Parameters and batches split over devices: where arrays lie, what is sent."""

import json
import math
import os
import pathlib
import subprocess

import numpy as np
import pytest

from tests import helpers

ROOT = pathlib.Path(__file__).parents[1]
RUNS = (
  "replicated",
  "sharded",
  "replicated, explicit mesh",
  "sharded, explicit mesh",
  "loss in shard_map",
  "step in shard_map",
)
DEVICES = 8
# Elements of the smaller weight matrix on one of the devices.
SMALLEST = 64 * 8 // DEVICES


@pytest.fixture(name="program", scope="module")
def _program():
  """What `sharding_program.py` prints, run once."""
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  command = [*helpers.STRICT_PYTHON, "-m", "tests.sharding_program"]
  done = subprocess.run(
    command, cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-4000:]
  return json.loads(done.stdout)


def plain_row(program, layout):
  """Without prediction."""
  (row,) = [
    row
    for row in program["rows"]
    if (row["layout"], row["rule"]) == (layout, "none")
  ]
  return row


def path(collective):
  return tuple(collective["path"])


def elements(collective):
  return max(math.prod(shape) for shape in collective["shapes"])


def assert_calls_agree(calls, dtype):
  """As ``helpers.assert_calls_agree``, of what another process has printed."""
  same = [call for call in calls if len(set(call["steps"])) == 1]
  assert len(same) >= 0.9 * len(calls) > 0
  for call in same:
    got, wanted = map(np.asarray, call["arrays"])
    helpers.assert_close(got, wanted, dtype, scale=10)


@pytest.mark.parametrize("rule, slots", [("momentum", 2), ("secant", 4)])
def test_every_slot_has_its_parameters_sharding(program, rule, slots):
  # Two matrices; the slots, the parameters at the last true gradient and at the
  # start of the window, and the correction.
  assert program["slots"][rule] == [True] * 2 * (slots + 3)


@pytest.mark.parametrize("name", RUNS)
def test_every_call_equals_the_one_on_a_single_device(program, name):
  run = program["runs"][name]
  assert run["steps"] > 1.5 * run["true_gradients"]
  assert_calls_agree(run["calls"], "float32")


@pytest.mark.parametrize("name", ["sharded", "sharded, explicit mesh"])
def test_every_accelerated_call_equals_the_one_on_a_single_device(
  program, name
):
  run = program["accelerated"][name]
  assert run["steps"] > 1.5 * run["true_gradients"]
  assert_calls_agree(run["calls"], "float32")
  assert run["params_stay"]


def test_accelerated_state_is_split_as_its_parameters_by_their_type(program):
  run = program["accelerated"]["sharded, explicit mesh"]
  # Two matrices: the history as above, and Adam's two moments, kept twice.
  assert run["trees_like_params"] == 2 * (4 + 2 + 2 * 2)
  assert run["trees_stay"]
  # Elsewhere small arrays are one vector.
  assert program["accelerated"]["sharded"]["trees_like_params"] == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_every_call_equals_the_one_on_a_single_device_by_dtype(program, dtype):
  assert_calls_agree(program["dtypes"][dtype]["calls"], dtype)


@pytest.mark.parametrize("name", RUNS)
def test_parameters_and_state_stay_where_they_are(program, name):
  assert program["runs"][name]["stays_in_place"]


@pytest.mark.parametrize("name", RUNS)
def test_gradients_are_summed_once_per_true_gradient(program, name):
  """What is as large as parameters is sent outside of loops and branches."""
  found = program["runs"][name]["collectives"]
  large = [c for c in found if elements(c) >= SMALLEST]
  assert any(c["kind"] == "all-reduce" for c in large)
  assert {path(c) for c in large} == {()}


@pytest.mark.parametrize("name", RUNS)
def test_predicted_steps_send_scalars_only(program, name):
  found = program["runs"][name]["collectives"]
  inside = [c for c in found if path(c)[:1] == ("while",)]
  # One partial sum per device and inner product, if anything.
  assert all(elements(c) <= DEVICES < SMALLEST for c in inside)
  assert bool(inside) == name.startswith("sharded")


@pytest.mark.parametrize("layout", ["replicated", "sharded"])
def test_per_step_form_sums_gradients_in_the_computed_branch(program, layout):
  run = program["per_step"][layout]
  found = run["collectives"]
  large = [c for c in found if elements(c) >= SMALLEST]
  assert any(c["kind"] == "all-reduce" for c in large)
  # `lax.cond` has the true branch second.
  assert {path(c) for c in large} == {("branch 1",)}
  assert 0 < run["true_gradients"] < run["steps"]
  assert run["stays_in_place"]


def test_split_parameters_inside_shard_map_are_refused(program):
  """Each device would decide for itself when its window ends."""
  message = program["split in shard_map"]
  assert (
    message.startswith("TypeError") and "axis types do not match" in message
  )


@pytest.mark.parametrize("layout", ["replicated", "sharded"])
def test_bytes_per_optimizer_step_shrink_with_the_steps(program, layout):
  plain, row = plain_row(program, layout), program["runs"][layout]["row"]
  ratio = row["bytes_per_step"] / plain["bytes_per_step"]
  assert ratio < 1.25 / row["steps_per_gradient"] < 0.5


@pytest.mark.parametrize("layout", ["replicated", "sharded"])
def test_true_gradients_send_what_the_network_needs(program, layout):
  parameters = 4 * (16 * 64 + 64 * 8)
  loss = 4
  # Sharded: the matrices are gathered and their gradients summed.
  times = {"replicated": 1, "sharded": 2}[layout]
  sent = plain_row(program, layout)["true"]
  assert sent["bytes"] == times * parameters + loss


def test_published_bytes_are_those_measured_here(program):
  file = ROOT / "benchmarks" / "results" / "communication.json"
  rows = json.loads(file.read_text())["rows"]
  published = {(row["layout"], row["rule"]): row for row in rows}
  assert len(program["rows"]) == 4
  for row in program["rows"]:
    other = published[row["layout"], row["rule"]]
    for part in ("true", "predicted"):
      assert row[part]["bytes"] == pytest.approx(other[part]["bytes"], 0.25)
    # How many steps a gradient led to differs from processor to processor.
    steps = other["steps_per_gradient"]
    sent = other["true"]["bytes"] / steps + other["predicted"]["bytes"]
    assert other["bytes_per_step"] == pytest.approx(sent, 1e-3)
