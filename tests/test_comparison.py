"""What the gallery's notebooks count, on losses whose counts are known."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from optax_predict.demo import comparison

START = {"x": jnp.array([4.0, -8.0])}


def loss_fn(params):
  return 0.5 * jnp.sum(params["x"] ** 2)


value_and_grad = jax.value_and_grad(loss_fn)


def size(params):
  return jnp.max(jnp.abs(params["x"]))


def run_sgd(rate):
  return comparison.run_optax(
    "sgd", optax.sgd(rate), value_and_grad, START, 5, metric=size
  )


def test_gradient_descent_halves_its_way():
  run = run_sgd(0.5)
  np.testing.assert_allclose(run.losses, 40 / 4.0 ** np.arange(5))
  np.testing.assert_allclose(run.metric, 8 / 2.0 ** np.arange(5))
  np.testing.assert_allclose(run.params["x"], [4 / 16, -8 / 16])
  assert comparison.gradients_to(run, 2.5) == 3
  assert comparison.seconds_to(run, 2.5) == run.seconds[2]
  assert comparison.gradients_to(run, 0.1) == np.inf
  assert np.all(np.diff(run.seconds) > 0) and run.compile_seconds > 0


def test_accelerate_needs_fewer():
  target, runs = 1e-4, []
  for tx in (optax.sgd(0.1), optax_predict.accelerate(optax.sgd(0.1))):
    runs.append(comparison.run_optax("", tx, value_and_grad, START, 100))
  alone, fewer = (comparison.gradients_to(run, target) for run in runs)
  assert fewer < 0.5 * alone < 50


def test_what_diverges_ends_and_keeps_its_best():
  def cliff(params):
    loss, grads = value_and_grad(params)
    return jnp.where(loss > 100, jnp.nan, loss), grads

  run = comparison.run_optax("", optax.sgd(3.0), cliff, START, 9)
  assert len(run.losses) == 2 and comparison.final_loss(run) == 40
  np.testing.assert_allclose(run.params["x"], START["x"])


@pytest.mark.parametrize("tx", [optax.adam(0.1), optax.sgd(0.1)])
def test_a_start_of_weak_type_is_compiled_once(tx):
  traced = []

  def traces(params):
    traced.append(params)
    return jax.value_and_grad(lambda x: jnp.sum(x**2))(params)

  comparison.run_optax("", tx, traces, jnp.full((2,), 1.0), 5)
  comparison.run_scipy_lbfgs(traces, jnp.full((2,), 1.0), 5)
  assert len(traced) == 2


def test_inputs_are_given_one_by_one():
  run = comparison.run_optax(
    "",
    optax.sgd(0.5),
    lambda params, more: (more, params),
    START,
    3,
    inputs=jnp.arange(3.0),
  )
  np.testing.assert_array_equal(run.losses, [0, 1, 2])


def test_tuning_finds_the_rate_that_is_exact():
  best, runs = comparison.tune(
    "sgd",
    optax.sgd,
    (1.0, 2.5),
    value_and_grad,
    START,
    9,
    target=1e-6,
    known={0.1: run_sgd(0.1)},
  )
  assert list(runs) == [0.1, 1.0, 2.5]
  assert best is runs[1.0] and best.name == "sgd, 1"
  assert comparison.gradients_to(best, 1e-6) == 2


@pytest.mark.parametrize(
  "search", [comparison.run_scipy_lbfgs, comparison.run_optax_lbfgs]
)
def test_line_searches_count_every_evaluation(search):
  calls = []

  def counted(params):
    loss, grads = value_and_grad(params)
    jax.debug.callback(lambda loss: calls.append(float(loss)), loss)
    return loss, grads

  warm_up = search(counted, START, 1)
  jax.effects_barrier()
  assert warm_up.losses.tolist() == [40.0]
  calls.clear()
  run = search(counted, START, 50, metric=size)
  jax.effects_barrier()
  # The last are this run's: it begins where the warm-up did.
  made = calls[len(calls) - len(run.losses) :]
  np.testing.assert_array_equal(run.losses, made)
  assert run.losses[0] == 40.0 and run.metric[0] == 8.0
  # The first step, by the length of the gradient, is too short; the next is exact.
  assert comparison.gradients_to(run, 1e-8) <= 6
  assert len(run.losses) == len(run.seconds) == len(run.metric)


def test_many_starts_are_the_single_ones():
  starts = {"x": jnp.array([[4.0, -8.0], [1.0, 0.0], [2.0, 2.0]])}
  together = comparison.run_optax(
    "sgd",
    comparison.many(optax_predict.accelerate(optax.sgd(0.1))),
    jax.vmap(value_and_grad),
    starts,
    12,
  )
  singles = []
  for i in range(3):
    start = jax.tree.map(lambda x, i=i: x[i], starts)
    tx = optax_predict.accelerate(optax.sgd(0.1))
    run = comparison.run_optax("sgd", tx, value_and_grad, start, 12 - i)
    singles.append(run)
  stacked = comparison.stack(singles)
  assert stacked.losses.shape == together.losses.shape == (12, 3)
  np.testing.assert_allclose(
    stacked.losses[:10], together.losses[:10], rtol=1e-2, atol=1e-9
  )
  assert stacked.losses[11, 2] == stacked.losses[9, 2]
  assert stacked.seconds[-1] == pytest.approx(
    sum(run.seconds[-1] for run in singles)
  )
  target = 0.5 * together.losses[0]
  one = [comparison.gradients_to(r, t) for r, t in zip(singles, target)]
  assert comparison.gradients_to(together, target) == np.median(one)
  np.testing.assert_allclose(
    jax.vmap(loss_fn)(together.params), comparison.final_loss(together)
  )


def test_one_run_follows_another():
  first = run_sgd(0.5)
  second = comparison.run_scipy_lbfgs(
    value_and_grad, first.params, 3, metric=size
  )
  both = comparison.follow("both", first, second)
  assert both.losses[4] == both.losses[5] == comparison.final_loss(first)
  assert np.all(np.diff(both.seconds) > 0)
  assert len(both.losses) == len(both.seconds) == len(both.metric)
  assert loss_fn(both.params) == comparison.final_loss(both)


def test_table_and_record(tmp_path, monkeypatch):
  def run(name, losses):
    count = len(losses)
    return comparison.Run(
      name, np.array(losses), 0.5 * np.arange(1.0, count + 1), 1.0, None
    )

  runs = {
    "tutorial": run("adam", [4.0, 3.0, 2.0, 1.0]),
    "accelerated": run("accelerate(adam)", [4.0, 0.5]),
    "scipy": run("L-BFGS", [4.0, np.nan]),
  }
  lines = comparison.table(runs, 1.0).splitlines()
  assert lines[2] == "| adam | 4 | 1 | 2 | 1 | 1 | 1 |"
  assert lines[3] == "| accelerate(adam) | 2 | 0.5 | 1 | 0.5 | 0.5 | 1 |"
  assert lines[4] == "| L-BFGS | - | - | - | - | 4 | 1 |"
  comparison.save("nowhere", runs, 1.0)
  monkeypatch.setenv("GALLERY_OUT", str(tmp_path))
  comparison.save("here", runs, 1.0, title="a problem")
  (path,) = tmp_path.iterdir()
  record = json.loads(path.read_text())
  assert path.name == "here.json" and record["title"] == "a problem"
  assert record["target"] == 1.0
  assert record["runs"]["accelerated"]["ratio"] == 0.5
  assert record["runs"]["scipy"]["gradients"] is None
  figure = comparison.plot_runs(runs, 1.0)
  assert len(figure.axes[0].lines) == 4
