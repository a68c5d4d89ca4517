"""The forms for flax.nnx: the same numbers, and modules changed only when due."""

import runpy
import sys

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
import optax_predict.nnx as predict_nnx
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(16, 3)), jnp.float32)
Y = jnp.sin(X.sum(1, keepdims=True))


class Net(nnx.Module):
  def __init__(self, dropout=0.1):
    rngs = nnx.Rngs(0)
    # A bias before BatchNorm has a gradient of rounding errors only.
    self.hidden = nnx.Linear(3, 4, use_bias=False, rngs=rngs)
    self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
    self.dropout = nnx.Dropout(dropout, rngs=rngs)
    self.out = nnx.Linear(4, 1, rngs=rngs)

  def __call__(self, x):
    x = self.dropout(jnp.tanh(self.norm(self.hidden(x))))
    return self.out(x)


def loss_fn(model, x, y):
  predicted = model(x)
  return jnp.mean((predicted - y) ** 2), {"mean": jnp.mean(predicted)}


def optimizer_chain():
  """Two predicted steps after every true gradient but the first."""
  predict = optax_predict.predict_gradients(
    optax_predict.forecasters.momentum(),
    optax_predict.horizons.fixed(2, min_correlation=-1.0),
  )
  return optax.chain(predict, optax.adam(0.05))


def adaptive_chain():
  predict = optax_predict.predict_gradients(
    optax_predict.forecasters.secant(memory=2)
  )
  return optax.chain(predict, optax.sgd(0.05))


def create(tx, dropout=0.1):
  model = Net(dropout)
  return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


def values(variables):
  """Plain arrays by path; random keys as their numbers."""

  def plain(x):
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)

  leaves = jax.tree_util.tree_leaves_with_path(variables)
  return {jax.tree_util.keystr(p): plain(x) for p, x in leaves}


def not_trained(model):
  """BatchNorm statistics and random streams."""
  return values(nnx.state(model, nnx.Not(nnx.Param)))


def are_equal(a, b):
  assert a.keys() == b.keys()
  return all(np.array_equal(a[k], b[k]) for k in a)


def nnx_fast_forward_step(model, optimizer, carry, loss=loss_fn):
  del carry
  value_and_grad = nnx.value_and_grad(loss, has_aux=True)
  value, grads = value_and_grad(model, X, Y)
  optimizer.update(model, grads)
  predict_nnx.fast_forward(optimizer, model)
  return value


def nnx_per_step(model, optimizer, carry, loss=loss_fn):
  value_and_grad = predict_nnx.value_and_grad(loss, has_aux=True)
  value, grads = value_and_grad(
    model, X, y=Y, state=optimizer.opt_state, skipped=carry
  )
  optimizer.update(model, grads)
  return value


def optax_step(tx, dropout, skips):
  """A call without nnx's optimizer: pure functions of the net's parameters."""
  graphdef, params, rest = nnx.split(Net(dropout), nnx.Param, ...)
  types, structure = jax.tree.structure(params), jax.tree.structure(rest)

  def pure_loss(params, rest):
    leaves = [params[i] for i in range(len(params))]
    model = nnx.merge(
      graphdef,
      jax.tree.unflatten(types, leaves),
      jax.tree.unflatten(structure, rest),
    )
    value, aux = loss_fn(model, X, Y)
    rest = nnx.state(model, nnx.Not(nnx.Param))
    return value, (aux, jax.tree.leaves(rest))

  value_and_grad = jax.value_and_grad(pure_loss, has_aux=True)
  skipping = optax_predict.value_and_grad(pure_loss, has_aux=True)

  @jax.jit
  def step(params, state, rest, last):
    if skips:
      (value, (aux, rest)), grads = skipping(
        params, rest, state=state, skipped=(last[0], (last[1], rest))
      )
    else:
      (value, (aux, rest)), grads = value_and_grad(params, rest)
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    if not skips:
      params, state = optax_predict.fast_forward(tx, params, state)
    return params, state, rest, (value, aux)

  return step


def unpacked(tx, model, optimizer):
  """Parameters, the optimizer's state and all else as ``optax_step`` has them."""
  params = dict(enumerate(jax.tree.leaves(nnx.state(model, nnx.Param))))
  state = jax.tree.unflatten(
    jax.tree.structure(tx.init(params)), jax.tree.leaves(optimizer.opt_state)
  )
  rest = jax.tree.leaves(nnx.state(model, nnx.Not(nnx.Param)))
  return params, state, rest


def start():
  return jnp.zeros([]), {"mean": jnp.zeros([])}


@pytest.mark.parametrize(
  "make, dropout, step, steps",
  [
    (optimizer_chain, 0.1, nnx_fast_forward_step, 10),
    (optimizer_chain, 0.1, nnx_per_step, 20),
    (adaptive_chain, 0.0, nnx_fast_forward_step, 20),
  ],
)
def test_same_numbers_as_optax(make, dropout, step, steps):
  """Of every call, from the state that nnx has led to."""
  tx = make()
  model, optimizer = create(tx, dropout)
  jitted, carry, pairs = nnx.jit(step), start(), []
  plain = optax_step(tx, dropout, skips=step is nnx_per_step)
  for _ in range(steps):
    *wanted, rest, last = plain(*unpacked(tx, model, optimizer), carry)
    carry = jitted(model, optimizer, carry)
    *found, got = unpacked(tx, model, optimizer)
    pairs.append((found, wanted))
    for a, b in zip(got, rest, strict=True):
      if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        helpers.assert_close(a, b)
    helpers.assert_close(carry, last, scale=10)
  helpers.assert_calls_agree(pairs, scale=10)
  stats = predict_nnx.get_stats(optimizer)
  assert int(stats.predicted_steps) > 0
  assert int(optimizer.step[...]) == int(stats.total_steps)


def test_skipped_step_leaves_the_module_alone():
  model, optimizer = create(optimizer_chain())
  step, last = nnx.jit(nnx_per_step), start()
  skipped = 0
  for _ in range(9):
    is_due = bool(predict_nnx.should_compute_full(optimizer))
    before, params = not_trained(model), values(nnx.state(model, nnx.Param))
    value = step(model, optimizer, last)
    assert are_equal(not_trained(model), before) != is_due
    assert not are_equal(values(nnx.state(model, nnx.Param)), params)
    if not is_due:
      skipped += 1
      jax.tree.map(np.testing.assert_array_equal, value, last)
    last = value
  assert skipped == 5
  assert int(optimizer.step[...]) == 9


@pytest.mark.parametrize("form", [nnx_fast_forward_step, nnx_per_step])
def test_one_compilation_and_one_evaluation_per_true_gradient(form):
  evaluations, traces = [], []

  def counted(model, x, y):
    value, aux = loss_fn(model, x, y)
    jax.debug.callback(lambda _: evaluations.append(1), value)
    return value, aux

  @nnx.jit
  def step(model, optimizer, carry):
    traces.append(1)
    return form(model, optimizer, carry, counted)

  model, optimizer = create(optimizer_chain())
  types = helpers.types(nnx.state(optimizer))
  carry = start()
  for _ in range(8):
    carry = step(model, optimizer, carry)
  jax.effects_barrier()
  stats = predict_nnx.get_stats(optimizer)
  assert len(evaluations) == int(stats.computed_steps)
  assert int(stats.predicted_steps) >= 4
  assert len(traces) == 1
  assert helpers.types(nnx.state(optimizer)) == types


@nnx.jit
def true_step(model, optimizer):
  grads, _ = nnx.grad(loss_fn, has_aux=True)(model, X, Y)
  optimizer.update(model, grads)


FIXED = optimizer_chain()


def middle_of_a_window():
  model, optimizer = create(FIXED)
  for _ in range(2):
    true_step(model, optimizer)
  assert not predict_nnx.should_compute_full(optimizer)
  return model, optimizer


@pytest.mark.parametrize("hold", [False, True])
def test_fast_forward_can_hold_schedules(hold):
  tx = optax.chain(
    optax_predict.predict_gradients(
      optax_predict.forecasters.momentum(), optax_predict.horizons.fixed(3)
    ),
    optax.sgd(optax.constant_schedule(0.0)),
  )
  model, optimizer = create(tx, dropout=0.0)
  for _ in range(3):
    _, grads = nnx.value_and_grad(loss_fn, has_aux=True)(model, X, Y)
    optimizer.update(model, grads)
    predict_nnx.fast_forward(optimizer, model, hold_schedules=hold)
  stats = predict_nnx.get_stats(optimizer)
  assert int(stats.predicted_steps) > 0
  wanted = stats.computed_steps if hold else stats.total_steps
  (count,) = [
    x for name, x in values(nnx.state(optimizer)).items() if "'count'" in name
  ]
  assert int(count) == int(wanted)


def test_fast_forward_leaves_all_but_parameters_alone():
  model, optimizer = middle_of_a_window()
  before, params = not_trained(model), values(nnx.state(model, nnx.Param))
  predict_nnx.fast_forward(optimizer, model)
  assert are_equal(not_trained(model), before)
  assert not are_equal(values(nnx.state(model, nnx.Param)), params)
  assert int(optimizer.step[...]) == 4
  # Now a true gradient is due: nothing changes.
  params = values(nnx.state(model, nnx.Param))
  state = values(nnx.state(optimizer))
  predict_nnx.fast_forward(optimizer, model)
  assert are_equal(values(nnx.state(model, nnx.Param)), params)
  assert are_equal(values(nnx.state(optimizer)), state)


def test_other_variables_than_parameters_can_be_trained():
  class Trained(nnx.Variable):
    pass

  class Scaled(nnx.Module):
    def __init__(self):
      self.inner = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
      self.scale = Trained(jnp.ones(1))

    def __call__(self, x):
      return self.scale[...] * self.inner(x)

  model = Scaled()
  optimizer = nnx.Optimizer(model, optimizer_chain(), wrt=Trained)
  params = values(nnx.state(model, nnx.Param))
  value_and_grad = predict_nnx.value_and_grad(
    loss_fn, argnums=nnx.DiffState(0, Trained), has_aux=True
  )
  scales = [1.0]
  for _ in range(4):
    _, grads = value_and_grad(model, X, Y, state=optimizer.opt_state)
    optimizer.update(model, grads)
    scales.append(float(model.scale[0]))
  assert int(predict_nnx.get_stats(optimizer).predicted_steps) == 2
  assert len(set(scales)) == 5
  _, grads = value_and_grad(model, X, Y, state=optimizer.opt_state)
  optimizer.update(model, grads)
  predict_nnx.fast_forward(optimizer, model)
  assert int(optimizer.step[...]) == 7
  assert float(model.scale[0]) not in scales
  assert are_equal(values(nnx.state(model, nnx.Param)), params)


def test_skipped_call_is_nan_unless_said_otherwise():
  model, optimizer = middle_of_a_window()
  value_and_grad = predict_nnx.value_and_grad(loss_fn, has_aux=True)
  (loss, aux), grads = value_and_grad(model, X, Y, state=optimizer.opt_state)
  assert np.isnan(loss) and np.isnan(aux["mean"])
  for leaf in jax.tree.leaves(grads):
    np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


def test_reset_forgets_in_place():
  _, optimizer = middle_of_a_window()
  predict_nnx.reset(optimizer)
  assert int(predict_nnx.get_stats(optimizer).total_steps) == 0
  assert bool(predict_nnx.should_compute_full(optimizer))
  assert int(optimizer.step[...]) == 2


def test_wrong_use_is_named():
  model, optimizer = middle_of_a_window()
  value_and_grad = predict_nnx.value_and_grad(loss_fn, has_aux=True)
  with pytest.raises(TypeError, match="state= is missing"):
    value_and_grad(model, X, Y)
  with pytest.raises(ValueError, match=r"skipped.*\(2,\)"):
    value_and_grad(
      model,
      X,
      Y,
      state=optimizer.opt_state,
      skipped=(jnp.zeros(2), {"mean": jnp.zeros([])}),
    )
  counts = predict_nnx.value_and_grad(
    lambda model: (jnp.mean(model(X)), jnp.int32(16)), has_aux=True
  )
  with pytest.raises(TypeError, match=r"int32 at .*skipped="):
    counts(model, state=optimizer.opt_state)
  other = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
  for call in (
    lambda: value_and_grad(model, X, Y, state=other.opt_state),
    lambda: predict_nnx.fast_forward(other, model),
    lambda: predict_nnx.get_stats(other),
    lambda: predict_nnx.reset(other),
  ):
    with pytest.raises(ValueError, match="holds no predictor's state"):
      call()


def test_missing_flax_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "flax", None)
  with pytest.raises(ImportError, match=r'pip install "optax_predict\[flax\]"'):
    runpy.run_path(predict_nnx.__file__)


def test_arguments_in_another_order_are_named():
  with pytest.raises(TypeError, match="nnx.Optimizer, got Net.*optimizer, mod"):
    predict_nnx.fast_forward(Net(), None)
