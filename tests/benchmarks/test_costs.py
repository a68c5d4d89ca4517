import json
import types

import jax
import jax.numpy as jnp
import optax
import pytest

from benchmarks.cost import accelerated
from benchmarks.cost import step_cost
from benchmarks.cost import tables
from benchmarks.cost import timing
from benchmarks.cost import wall_time
import optax_predict


def test_rounds_are_interleaved_after_one_warm_up():
  calls = []
  seconds = timing.interleaved(
    {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2
  )
  assert calls == ["a", "b"] * 3
  assert [len(s) for s in seconds.values()] == [2, 2]
  taken = {"a": [2.0, 6.0, 9.0], "b": [1.0, 2.0, 3.0]}
  assert timing.ratio(taken, "a", "b") == 3


def test_a_program_knows_its_copies_and_memory():
  program = timing.Program(lambda x: x + 1, jnp.zeros(1024))
  assert program.copies(1024) == 0
  assert program.temp_bytes >= 0
  assert program.compile_s > 0
  assert program(jnp.zeros(1024))[0] == 1


def test_copies_to_the_host_are_counted_once_each():
  """The host's own plane lists them too."""
  events = [types.SimpleNamespace(name=n) for n in ("MemcpyD2H", "add", "x")]
  lines = [types.SimpleNamespace(events=2 * events)]
  planes = [
    types.SimpleNamespace(name=name, lines=lines)
    for name in ("/device:GPU:0", "/host:CPU")
  ]
  assert timing.copies_to_host(planes) == 2


def test_bandwidth_counts_what_is_read_and_written(monkeypatch):
  seconds = {"copy": [0.5, 0.25]}
  monkeypatch.setattr(timing, "interleaved", lambda calls, rounds: seconds)
  assert timing.bandwidth(megabytes=1) == 2 * 2**20 / 0.25


def test_step_cost_of_the_momentum_forecast(tmp_path):
  step_cost.main(
    [
      "--sizes",
      "0.001",
      "--leaves",
      "2",
      "--rounds",
      "1",
      "--forecasters",
      "momentum",
      "--results",
      str(tmp_path),
    ]
  )
  text = tables.section(tmp_path)
  assert text.count("fast_forward") == 2
  # Adam moves 7 buffers; the forecast reads 2 and spares the gradient.
  assert "1.14" in text


def test_the_default_is_timed_where_its_windows_do_not_matter():
  always = ["true gradient", "resting"]
  predicted = ["fast_forward", "fixed count", "per step"]
  for name, wanted in (
    ("default", [*always, "resting, step of 50"]),
    ("secant", [*predicted, *always]),
  ):
    setting = step_cost.Setting(name, "adam", 1, 1000, "float32")
    tx = step_cost._optimizer(setting)
    forms = list(step_cost._forms(tx, optax.adam(1.0), setting))
    assert [form.name for form in forms] == wanted
    assert [form.is_predicted for form in forms] == [
      form.name in predicted for form in forms
    ]


def test_a_dear_step_is_as_many_updates_and_one_of_ours():
  updates = []
  counting = optax.GradientTransformation(
    lambda params: jnp.zeros([]),
    lambda grads, state, params: (grads, state + 1),
  )

  def step(params, state, grads):
    updates.append(grads)
    return params, state

  dear = step_cost._dear(step, counting)
  assert dear(jnp.float32(1), None, jnp.float32(2)) == (1, None)
  # 49 updates by 2, from 2.
  assert updates == [2 + 49 * 2]


def test_several_calls_are_timed_as_one():
  count = timing.Carried(lambda x: (x + 1,), (0,), calls=4)
  assert count() == (4,)


def test_a_dear_gradient_is_the_same_and_evaluated_so_often():
  calls = []

  def value_and_grad(x):
    calls.append(x)
    return 2 * x, 3 * x

  problem = types.SimpleNamespace(
    task=None, start=None, value_and_grad=value_and_grad
  )
  dear = wall_time._Dear(problem, 4)
  assert dear.value_and_grad(jnp.float32(5)) == (10, 15)
  assert len(calls) == 4


def test_a_flat_history_is_of_one_array(tmp_path):
  setting = step_cost.Setting("momentum", "adam", 5, 1000, "float32", True)
  state = step_cost._optimizer(setting).init(step_cost._params(setting))
  assert {x.shape for x in jax.tree.leaves(state)} == {(), (1000,)}
  rows = step_cost.measure(setting, rounds=1)
  made = {"device": "some", "bytes_per_second": 1.0}
  file = tmp_path / "step_cost_some.json"
  made |= {"date": "2020-01-02", "optax_predict": "7"}
  file.write_text(json.dumps({"made": made, "rows": rows}))
  assert tables.section(tmp_path).count("| 5, flat |") == len(rows)


def test_floor_counts_each_buffer_once():
  setting = step_cost.Setting("momentum", "adam", 1, 1000, "float32")
  rows = step_cost.measure(setting, rounds=1)
  floor = pytest.approx(8 / 7)
  # Four steps of fast_forward are one pass.
  in_one_pass = pytest.approx(8 / 7 / 4)
  wanted = [in_one_pass, floor, floor, None, None]
  assert [row["floor"] for row in rows] == wanted
  # Adam's seven buffers, and one more.
  assert rows[1]["bytes"] == pytest.approx(8 * 4 * 1000)


def test_the_costs_of_accelerate_by_hand(tmp_path):
  row = {
    "base": "adam",
    "arrays": 50,
    "numbers": 1000,
    "loop_s": {"base": 2e-6, "rest": 3e-6, "record": 8e-5, "window": 2e-4},
    "call_s": {"base": 1e-5, "rest": 6e-5},
    "compile_s": 4.04,
    "state_arrays": 217,
    "base_arrays": 101,
    "operations": {"update": 4, "recording": 300, "forecast": 80},
  }
  made = {"device": "a processor", "date": "2020-01-02", "optax_predict": "7"}
  found = {"made": made, "rows": [row]}
  (tmp_path / "accelerated_some.json").write_text(json.dumps(found))
  section = tables.section(tmp_path)
  assert "Made 2020-01-02, optax_predict 7." in section
  line = section.splitlines()[-1]
  assert line == (
    "| adam | 50 / 1,000 | 2 / 10 | 3 / 60 | 1.10 / 2.00 | 80 | 40.0 | 100.0"
    " | 4 / 300 / 80 | 217 / 101 | 4.0 |"
  )


@pytest.mark.parametrize("name", ["rest", "record"])
def test_a_gradient_is_let_through_or_recorded_without_a_window(name):
  horizon = accelerated._horizons()[name]
  tx = optax_predict.accelerate(optax.sgd(0.1), horizon=horizon)
  x, updates = jnp.ones(3), jax.jit(tx.update)
  state = tx.init(x)
  for _ in range(4):
    _, state = updates(x, state, x)
  stats = optax_predict.get_stats(state)
  assert stats.predicted_steps == 0
  assert stats.history_size == (1 if name == "rest" else 4)


def test_a_timed_window_is_as_long_as_it_says():
  horizon = accelerated._horizons()["window"]
  tx = optax_predict.accelerate(optax.sgd(0.01), horizon=horizon)
  params = accelerated._params(2, 10)
  state = tx.init(params)
  _, state = jax.jit(accelerated._loop(tx, 5))(params, state)
  stats = optax_predict.get_stats(state)
  # From the third on there is something to predict with.
  assert stats.predicted_steps == 3 * accelerated.WINDOW
