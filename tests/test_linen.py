"""Both forms with flax.linen: BatchNorm, Dropout, aux and a plain TrainState."""

from typing import Any

from flax import linen as nn
from flax.training import train_state
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(16, 3)), jnp.float32)
Y = jnp.sin(X.sum(1, keepdims=True))


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    # A bias before BatchNorm has a gradient of rounding errors only.
    x = nn.Dense(4, use_bias=False)(x)
    x = nn.BatchNorm(use_running_average=False, momentum=0.9)(x)
    x = nn.Dropout(0.1, deterministic=False)(jnp.tanh(x))
    return nn.Dense(1)(x)


class TrainState(train_state.TrainState):
  batch_stats: Any
  dropout_key: jax.Array


def create(fixed_steps=2):
  model, key = Net(), jax.random.key(0)
  variables = model.init({"params": key, "dropout": key}, X)
  predict = optax_predict.predict_gradients(
    optax_predict.forecasters.momentum(),
    optax_predict.horizons.fixed(fixed_steps, min_correlation=-1.0),
  )
  return TrainState.create(
    apply_fn=model.apply,
    params=variables["params"],
    tx=optax.chain(predict, optax.adam(0.05)),
    batch_stats=variables["batch_stats"],
    dropout_key=key,
  )


def loss_fn(params, state, on_evaluation=None):
  predicted, changed = state.apply_fn(
    {"params": params, "batch_stats": state.batch_stats},
    X,
    mutable=["batch_stats"],
    rngs={"dropout": state.dropout_key},
  )
  loss = jnp.mean((predicted - Y) ** 2)
  if on_evaluation is not None:
    jax.debug.callback(on_evaluation, loss)
  return loss, (jnp.mean(predicted), changed["batch_stats"])


def fast_forward_step(state, last, on_evaluation=None):
  del last
  value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
  value, grads = value_and_grad(state.params, state, on_evaluation)
  state = state.apply_gradients(grads=grads, batch_stats=value[1][1])
  params, opt_state = optax_predict.fast_forward(
    state.tx, state.params, state.opt_state
  )
  return state.replace(params=params, opt_state=opt_state), value


def per_step(state, last, on_evaluation=None):
  value_and_grad = optax_predict.value_and_grad(loss_fn, has_aux=True)
  loss, (mean, _) = last
  value, grads = value_and_grad(
    state.params,
    state,
    on_evaluation,
    state=state.opt_state,
    skipped=(loss, (mean, state.batch_stats)),
  )
  state = state.apply_gradients(grads=grads, batch_stats=value[1][1])
  return state, value


def first_value(state):
  return jnp.zeros([]), (jnp.zeros([]), state.batch_stats)


def mean_of(state):
  return np.asarray(state.batch_stats["BatchNorm_0"]["mean"])


@pytest.mark.parametrize("form", [fast_forward_step, per_step])
def test_one_compilation_and_one_evaluation_per_true_gradient(form):
  evaluations = []
  step = jax.jit(
    lambda state, last: form(state, last, lambda _: evaluations.append(1))
  )
  state = create()
  last = first_value(state)
  state = state.replace(step=jnp.asarray(state.step))  # a Python 0 at first
  types = helpers.types(state)
  for _ in range(8):
    state, last = step(state, last)
    assert helpers.types(state) == types
  jax.effects_barrier()
  stats = optax_predict.get_stats(state.opt_state)
  assert len(evaluations) == int(stats.computed_steps)
  assert int(stats.predicted_steps) >= 4
  assert step._cache_size() == 1
  # A TrainState counts its own calls, the optimizer its steps.
  assert int(state.step) == 8
  count = optax.tree.get(state.opt_state[1], "count")
  assert int(count) == int(stats.total_steps)


def test_forms_agree():
  """The dropout mask is the same in every step, so the forms take one path."""
  fast, single = create(), create()
  step, last = jax.jit(fast_forward_step), first_value(fast)
  for _ in range(6):
    fast, fast_last = step(fast, last)
  step = jax.jit(per_step)
  for _ in range(int(optax_predict.get_stats(fast.opt_state).total_steps)):
    single, last = step(single, last)
  helpers.assert_close(single.params, fast.params, scale=100)
  helpers.assert_close(single.batch_stats, fast.batch_stats, scale=100)
  helpers.assert_close(last, fast_last, scale=100)


def test_skipped_step_keeps_statistics_and_aux():
  state = create()
  step, last = jax.jit(per_step), first_value(state)
  skipped = 0
  for _ in range(9):
    is_due = bool(optax_predict.should_compute_full(state.opt_state))
    before, mean, params = last, mean_of(state), state.params
    state, last = step(state, before)
    assert np.array_equal(mean_of(state), mean) != is_due
    moved = jax.tree.map(lambda a, b: jnp.any(a != b), state.params, params)
    assert any(map(bool, jax.tree.leaves(moved)))
    if not is_due:
      skipped += 1
      assert float(last[0]) == float(before[0])
      assert float(last[1][0]) == float(before[1][0])
  assert skipped == 5


def test_fast_forward_has_one_forward_pass():
  """BatchNorm's statistics move once per call, however many steps it takes."""
  state = create(fixed_steps=5)
  step, last = jax.jit(fast_forward_step), first_value(state)
  for _ in range(2):
    state, _ = step(state, last)
  before = optax_predict.get_stats(state.opt_state).total_steps
  _, (_, batch_stats) = loss_fn(state.params, state)
  state, _ = step(state, last)
  taken = optax_predict.get_stats(state.opt_state).total_steps - before
  assert int(taken) == 6
  helpers.assert_close(state.batch_stats, batch_stats, scale=10)
