"""Many problems at once: what `vmap` computes, and what it still saves."""

import functools
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


def fast_forward_call(tx, loss, params, state, weights):
  """A true gradient of one problem and the window after it."""
  gradients = jax.grad(loss)(params, weights)
  updates, state = tx.update(gradients, state, params)
  params = optax.apply_updates(params, updates)
  return optax_predict.fast_forward(tx, params, state)


def per_step_call(tx, loss, params, state, weights):
  """One step."""
  value_and_grad = optax_predict.value_and_grad(loss)
  _, gradients = value_and_grad(params, weights, state=state)
  updates, state = tx.update(gradients, state, params)
  return optax.apply_updates(params, updates), state


def run(call, tx, loss, weights):
  """The last statistics of one problem."""

  def step(carry, _):
    return call(tx, loss, *carry, weights), None

  carry = (jnp.zeros(5), tx.init(jnp.zeros(5)))
  (_, state), _ = lax.scan(step, carry, None, length=CALLS)
  return optax_predict.get_stats(state)


def counted(count):
  """The loss, with a host callback at every evaluation."""

  def tick(_):
    count[0] += 1

  def loss(params, weights):
    value = loss_fn(params, weights)
    jax.debug.callback(tick, value)
    return value

  return loss


@pytest.mark.parametrize("call", [fast_forward_call, per_step_call])
@pytest.mark.parametrize(
  "forecaster",
  [
    optax_predict.forecasters.momentum(),
    optax_predict.forecasters.secant(memory=2),
  ],
)
def test_vmap_equals_a_loop_over_problems(forecaster, call):
  """From the same states: rounding leads whole runs apart."""
  tx = optimizer(forecaster)
  one = functools.partial(call, tx, loss_fn)
  together, apart = jax.jit(jax.vmap(one)), jax.jit(one)
  params = jnp.zeros([PROBLEMS, 5])
  state = jax.vmap(tx.init)(params)
  pairs, moved = [], []
  for _ in range(CALLS):
    each = [apart(*lane((params, state, WEIGHTS), i)) for i in range(PROBLEMS)]
    before = optax_predict.get_stats(state).total_steps
    params, state = together(params, state, WEIGHTS)
    pairs += [(lane((params, state), i), own) for i, own in enumerate(each)]
    moved.append(optax_predict.get_stats(state).total_steps - before)
  helpers.assert_calls_agree(pairs)
  # Each problem took steps of its own, or no lane could go wrong by another's.
  assert call is per_step_call or any(np.ptp(steps) > 0 for steps in moved)


def lane(tree, i):
  return jax.tree.map(lambda x: x[i], tree)


def test_fast_forward_under_vmap_saves_in_every_problem():
  """Each takes its own number of steps from as many evaluations."""
  count = [0]
  tx = optimizer(optax_predict.forecasters.secant(memory=2))
  each = functools.partial(run, fast_forward_call, tx, counted(count))
  stats = jax.jit(jax.vmap(each))(WEIGHTS)
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
  each = functools.partial(run, per_step_call, tx, counted(count))
  stats = jax.jit(jax.vmap(each))(WEIGHTS)
  jax.effects_barrier()
  assert np.sum(stats.computed_steps) < 0.9 * PROBLEMS * CALLS
  assert count[0] == PROBLEMS * CALLS


def test_example_compares_as_published(example, tmp_path):
  """The rows of one optimizer, to within what rounding can do.

  Rounding decides when the last of sixteen is there, and kept one from it.
  """
  file = ROOT / "benchmarks" / "results" / "many_fits.json"
  published = json.loads(file.read_text())["optimizers"]
  name = "SGD, rate 0.3"
  assert published.keys() == example.OPTIMIZERS.keys()
  found = example.compare(example.OPTIMIZERS[name])
  plain, predicted, summed = found.values()
  for row in found.values():
    assert row["reached"] >= example.PROBLEMS - 1
  assert predicted["median"] < 0.3 * plain["median"]
  assert predicted["last"] < 0.3 * plain["last"]
  assert predicted["last"] < summed["last"] < plain["last"]
  for way, row in found.items():
    assert row["median"] == pytest.approx(
      published[name][way]["median"], rel=0.25
    )
