"""Many problems at once: what `vmap` computes, and what it still saves."""

import importlib.util
import json
import pathlib

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = pathlib.Path(__file__).parents[1]
PROBLEMS, CALLS = 3, 15
# Each problem has its own curvatures.
WEIGHTS = jnp.stack([jnp.logspace(-k, 0, 5) for k in (0.5, 1.5, 2.5)])


@pytest.fixture(name="example", scope="module")
def _example():
  file = ROOT / "examples" / "many_fits.py"
  spec = importlib.util.spec_from_file_location("many_fits", file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def loss_fn(params, weights):
  return 0.5 * jnp.sum(weights * (params - 1) ** 2)


def optimizer(forecaster):
  return optax.chain(
    optax_predict.predict_gradients(forecaster), optax.sgd(0.9)
  )


def fast_forward_run(tx, loss, weights):
  """Final state and the losses at true gradients of one problem."""

  def step(carry, _):
    params, state = carry
    value, gradients = jax.value_and_grad(loss)(params, weights)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state), value

  params = jnp.zeros(5)
  (params, state), losses = lax.scan(
    step, (params, tx.init(params)), None, length=CALLS
  )
  return params, optax_predict.get_stats(state), losses


def per_step_run(tx, loss, weights):
  """The same with one step per call."""
  value_and_grad = optax_predict.value_and_grad(loss)

  def step(carry, _):
    params, state = carry
    _, gradients = value_and_grad(params, weights, state=state)
    updates, state = tx.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), None

  params = jnp.zeros(5)
  (params, state), _ = lax.scan(
    step, (params, tx.init(params)), None, length=CALLS
  )
  return params, optax_predict.get_stats(state)


def counted(count):
  """The loss, with a host callback at every evaluation."""

  def tick(_):
    count[0] += 1

  def loss(params, weights):
    value = loss_fn(params, weights)
    jax.debug.callback(tick, value)
    return value

  return loss


@pytest.mark.parametrize(
  "forecaster",
  [
    optax_predict.forecasters.momentum(),
    optax_predict.forecasters.secant(memory=2),
  ],
)
def test_vmap_equals_a_loop_over_problems(forecaster):
  tx = optimizer(forecaster)

  def one(weights):
    return fast_forward_run(tx, loss_fn, weights)

  together = jax.jit(jax.vmap(one))(WEIGHTS)
  single = jax.jit(one)
  apart = [single(weights) for weights in WEIGHTS]
  apart = jax.tree.map(lambda *x: jnp.stack(x), *apart)
  np.testing.assert_array_equal(
    together[1].total_steps, np.asarray(apart[1].total_steps)
  )
  helpers.assert_close(together, apart, scale=100)


def test_fast_forward_under_vmap_saves_in_every_problem():
  """Each takes its own number of steps from as many evaluations."""
  count = [0]
  tx = optimizer(optax_predict.forecasters.secant(memory=2))
  run = jax.vmap(lambda w: fast_forward_run(tx, counted(count), w))
  _, stats, _ = jax.jit(run)(WEIGHTS)
  jax.effects_barrier()
  assert count[0] == PROBLEMS * CALLS
  np.testing.assert_array_equal(stats.computed_steps, [CALLS] * PROBLEMS)
  assert np.all(np.asarray(stats.total_steps) > 2 * CALLS)
  assert len(set(np.asarray(stats.total_steps).tolist())) > 1


def test_statistics_of_many_fits_with_two_predictors_are_each_fits_own():
  forecaster = optax_predict.forecasters.momentum()
  tx = optax.partition(
    {name: optimizer(forecaster) for name in "pq"}, {"a": "p", "b": "q"}
  )
  states = jax.vmap(tx.init)({"a": jnp.ones([4, 2]), "b": jnp.ones([4, 2])})
  counts = {"p": jnp.array([1, 1, 9, 1]), "q": jnp.array([2, 2, 2, 2])}
  for name, count in counts.items():
    states = optax.tree.set(
      states,
      lambda path, value, name=name: f"'{name}'" in jax.tree_util.keystr(path),
      true_gradient_count=count,
    )
  whole = optax_predict.get_stats(states)
  np.testing.assert_array_equal(whole.computed_steps, [2, 2, 9, 2])
  each = jax.vmap(optax_predict.get_stats)(states)
  jax.tree.map(np.testing.assert_array_equal, whole, each)


def test_per_step_form_under_vmap_evaluates_every_step():
  """A batched `cond` runs both branches: right, but nothing is saved."""
  count = [0]
  tx = optimizer(optax_predict.forecasters.momentum())
  params, stats = jax.jit(
    jax.vmap(lambda w: per_step_run(tx, counted(count), w))
  )(WEIGHTS)
  jax.effects_barrier()
  assert np.sum(stats.computed_steps) < 0.9 * PROBLEMS * CALLS
  assert count[0] == PROBLEMS * CALLS
  apart = jax.jit(lambda w: per_step_run(tx, loss_fn, w)[0])
  helpers.assert_close(
    params, jnp.stack([apart(w) for w in WEIGHTS]), scale=100
  )


def test_example_compares_as_published(example, tmp_path):
  """The rows of one optimizer, to within what rounding can do."""
  file = ROOT / "benchmarks" / "results" / "many_fits.json"
  published = json.loads(file.read_text())["optimizers"]
  name = "SGD, rate 0.3"
  assert published.keys() == example.OPTIMIZERS.keys()
  found = example.compare(example.OPTIMIZERS[name])
  plain, predicted, summed = found.values()
  for row in found.values():
    assert row["reached"] == example.PROBLEMS
  assert predicted["median"] < 0.3 * plain["median"]
  assert predicted["last"] < 0.3 * plain["last"]
  assert predicted["last"] < summed["last"] < plain["last"]
  for way, row in found.items():
    for key, value in row.items():
      assert value == pytest.approx(published[name][way][key], rel=0.2)
