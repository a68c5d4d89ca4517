"""Runs are saved and go on: in the middle of a window, on other devices."""

import functools
import pathlib
import pickle
import subprocess
import sys

from flax import serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
from orbax import checkpoint
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = pathlib.Path(__file__).parents[1]
FORECASTERS = optax_predict.forecasters
# Steps before the save at least, and after it.
BEFORE, AFTER, FEW = 15, 10, 3


def start():
  return {"w": jnp.linspace(-1.0, 1.0, 16).reshape(8, 2), "b": jnp.ones(8)}


def loss_fn(params):
  weights = jnp.linspace(0.05, 1.0, 8)
  square = jnp.sum(params["w"] ** 2, axis=1) + (params["b"] - 1) ** 2
  return 0.5 * jnp.sum(weights * square)


def optimizer(forecaster=None):
  forecaster = forecaster or FORECASTERS.secant(memory=2)
  return optax.chain(
    optax_predict.predict_gradients(forecaster), optax.sgd(0.3, momentum=0.5)
  )


@functools.cache
def step_of(tx):
  """One step per call, true or predicted."""
  value_and_grad = optax_predict.value_and_grad(loss_fn)

  @jax.jit
  def step(params, state):
    _, gradients = value_and_grad(params, state=state)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  return step


def advance(tx, carry, steps):
  for _ in range(steps):
    carry = step_of(tx)(*carry)
  return carry


@pytest.fixture(name="runs", scope="module")
def _runs(tmp_path_factory):
  """A run at the save, the same run later, and where it was saved."""
  tx = optimizer()
  saved = advance(tx, (start(), tx.init(start())), BEFORE)
  # Where windows begin and end is for rounding to say.
  was_due = True
  while was_due or optax_predict.should_compute_full(saved[1]):
    assert total_steps(saved) < 2 * BEFORE
    was_due = bool(optax_predict.should_compute_full(saved[1]))
    saved = advance(tx, saved, 1)
  path = tmp_path_factory.mktemp("checkpoints") / "run"
  with checkpoint.StandardCheckpointer() as checkpointer:
    checkpointer.save(path, saved)
  return saved, advance(tx, saved, AFTER), path


def total_steps(carry):
  return int(optax_predict.get_stats(carry[1]).total_steps)


def target(tx):
  """What to restore: shapes, dtypes and, for another machine, places."""
  shapes = jax.eval_shape(lambda p: (p, tx.init(p)), start())
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes
  )


def restore(path, tx):
  with checkpoint.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(path, target(tx))


def assert_identical(actual, desired):
  assert helpers.types(actual) == helpers.types(desired)
  jax.tree.map(np.testing.assert_array_equal, actual, desired)


def test_restored_run_goes_on_bit_for_bit(runs):
  saved, later, path = runs
  restored = restore(path, optimizer())
  assert_identical(restored, saved)
  went_on = advance(optimizer(), restored, AFTER)
  assert_identical(went_on, later)
  # The window was gone on with, and new ones came after it.
  stats = optax_predict.get_stats(went_on[1])
  assert int(stats.total_steps) == total_steps(saved) + AFTER
  before = optax_predict.get_stats(saved[1])
  assert int(stats.computed_steps) - int(before.computed_steps) < AFTER / 2


def test_an_accelerated_run_goes_on_bit_for_bit(tmp_path):
  tx = optax_predict.accelerate(
    optax.sgd(0.3, momentum=0.5), FORECASTERS.secant(memory=2)
  )

  @jax.jit
  def step(params, state):
    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    return optax.apply_updates(params, updates), state

  def go_on(carry):
    for _ in range(FEW):
      carry = step(*carry)
    return carry

  saved = go_on((start(), tx.init(start())))
  with checkpoint.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "run", saved)
  restored = restore(tmp_path / "run", tx)
  assert_identical(restored, saved)
  later = go_on(saved)
  assert total_steps(later) > total_steps(saved) + FEW
  assert_identical(go_on(restored), later)
  assert_identical(go_on(pickle.loads(pickle.dumps(saved))), later)


def test_an_accelerated_run_goes_on_with_another_memory():
  base = optax.sgd(0.3, momentum=0.5)
  tx = optax_predict.accelerate(base, FORECASTERS.secant(memory=2))
  params, old = start(), tx.init(start())
  updates, old = tx.update(jax.grad(loss_fn)(params), old, params)
  params = optax.apply_updates(params, updates)
  tx = optax_predict.accelerate(base, FORECASTERS.secant(memory=3))
  state = tx.init(params)._replace(
    base_optimizer_state=old.base_optimizer_state
  )
  assert helpers.types(state) == helpers.types(tx.init(params))
  gradients = jax.grad(loss_fn)(params)
  updates, _ = tx.update(gradients, state, params)
  # The base's momentum has stayed.
  kept = optax_predict.get_base_state(base, old, params)
  wanted, _ = base.update(gradients, kept, params)
  helpers.assert_close(updates, wanted, "float32")


@pytest.mark.parametrize("how", ["flax", "pickle"])
def test_other_ways_to_save_keep_every_bit(runs, how):
  saved, _, _ = runs
  if how == "flax":
    restored = serialization.from_bytes(saved, serialization.to_bytes(saved))
  else:
    restored = pickle.loads(pickle.dumps(saved))
  jax.tree.map(np.testing.assert_array_equal, restored, saved)
  assert jax.tree.structure(restored) == jax.tree.structure(saved)


def test_run_goes_on_with_eight_devices_and_back(runs, tmp_path):
  """From one device to eight, and from eight to one.

  A few steps: what rounding differs by leads longer runs apart.
  """
  saved, _, path = runs
  later = advance(optimizer(), saved, FEW)
  command = [sys.executable, "-m", "tests.checkpoint_program"]
  arguments = [str(path), str(tmp_path / "eight"), str(FEW)]
  done = subprocess.run(
    [*command, *arguments], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-4000:]
  back = restore(tmp_path / "eight", optimizer())
  assert len(back[0]["w"].sharding.device_set) == 1
  assert helpers.types(back) == helpers.types(later)
  helpers.assert_calls_agree([(back, later)])
  assert total_steps(back) == total_steps(saved) + FEW


OTHERS = {
  "secant, longer": FORECASTERS.secant(memory=3),
  "secant, shorter": FORECASTERS.secant(memory=1),
  "momentum": FORECASTERS.momentum(),
}


@pytest.mark.parametrize("other", OTHERS)
def test_state_of_another_memory_is_refused_when_read(runs, other):
  saved, _, path = runs
  tx = optimizer(OTHERS[other])
  with pytest.raises(ValueError, match="gradient_history"):
    restore(path, tx)
  with pytest.raises(ValueError, match="gradient_history"):
    serialization.from_bytes(
      (start(), tx.init(start())), serialization.to_bytes(saved)
    )


@pytest.mark.parametrize("other", OTHERS)
def test_state_of_another_memory_is_refused_when_used(runs, other):
  """A pickle is read without a target: the update is what refuses it."""
  params, state = pickle.loads(pickle.dumps(runs[0]))
  tx = optimizer(OTHERS[other])
  with pytest.raises(
    ValueError, match="state: it was made with another forecaster"
  ):
    jax.eval_shape(tx.update, params, state, params)


def test_a_run_goes_on_with_another_configuration(runs):
  """The predictor starts anew, the base optimizer's momentum stays."""
  (params, (_, *base)), _, _ = runs
  tx = optimizer(OTHERS["momentum"])
  state = (tx.init(params)[0], *base)
  assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))
  later, state = advance(tx, (params, state), 20)
  assert int(optax_predict.get_stats(state).total_steps) == 20
  assert float(loss_fn(later)) < 0.9 * float(loss_fn(params))
