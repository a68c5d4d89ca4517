"""JAX's strict settings: a user who debugs with them meets no error of ours."""

import contextlib
import functools

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

CALLS = 4
SETTINGS = {
  "as JAX is": {},
  "rank promotion": {"jax_numpy_rank_promotion": "raise"},
  "dtype promotion": {"jax_numpy_dtype_promotion": "strict"},
  "debug NaN": {"jax_debug_nans": True},
  "debug Inf": {"jax_debug_infs": True},
  "checks": {"jax_enable_checks": True},
  "no jit": {"jax_disable_jit": True},
  "tracer leaks": {"jax_check_tracer_leaks": True},
  "x64": {"jax_enable_x64": True},
}


@contextlib.contextmanager
def configured(options):
  before = {name: getattr(jax.config, name) for name in options}
  try:
    for name, value in options.items():
      jax.config.update(name, value)
    yield
  finally:
    for name, value in before.items():
      jax.config.update(name, value)


def start():
  return {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones([])}


def loss_fn(params):
  scales = jnp.linspace(0.1, 1.0, 6, dtype=params["w"].dtype).reshape(2, 3)
  return 0.5 * (jnp.sum(scales * params["w"] ** 2) + params["b"] ** 2)


def predicting(base):
  return optax.chain(optax_predict.predict_gradients(), base)


def in_a_loop(step, build=predicting):
  """From ``step(tx, params, state)`` to a run: its statistics and parameters.

  ``build(base)`` makes the optimizer that predicts.
  """

  def run(base, donate):
    tx = build(base)
    jitted = jax.jit(
      functools.partial(step, tx), donate_argnums=(0, 1) if donate else ()
    )
    params = start()
    state = tx.init(params)
    for _ in range(CALLS):
      params, state = jitted(params, state)
    return optax_predict.get_stats(state), params

  return run


def every_gradient(tx, params, state):
  """A loop that knows nothing of prediction."""
  updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
  return optax.apply_updates(params, updates), state


def per_step(tx, params, state):
  """One step per call: zeros where no gradient is due."""
  gradients = jax.lax.cond(
    optax_predict.should_compute_full(state),
    jax.grad(loss_fn),
    optax.tree.zeros_like,
    params,
  )
  updates, state = tx.update(gradients, state, params)
  return optax.apply_updates(params, updates), state


def fast_forward(tx, params, state):
  return optax_predict.fast_forward(tx, *every_gradient(tx, params, state))


def value_and_grad(tx, params, state):
  value_and_grad = optax_predict.value_and_grad(loss_fn)
  # Else a skipped loss is NaN, which jax_debug_nans is there to find.
  _, gradients = value_and_grad(params, state=state, skipped=0.0)
  updates, state = tx.update(gradients, state, params)
  return optax.apply_updates(params, updates), state


class Model(nnx.Module):
  def __init__(self):
    self.w, self.b = map(nnx.Param, (start()["w"], start()["b"]))

  def params(self):
    return {"w": self.w[...], "b": self.b[...]}


def nnx_loss(model):
  return loss_fn(model.params())


def in_a_module(step, build=predicting):
  """The same from ``step(model, optimizer)``, which changes both in place."""

  def run(base, donate):
    jitted = nnx.jit(step, donate_argnums=(0, 1) if donate else ())
    model = Model()
    optimizer = nnx.Optimizer(model, build(base), wrt=nnx.Param)
    for _ in range(CALLS):
      jitted(model, optimizer)
    return predict_nnx.get_stats(optimizer), model.params()

  return run


def nnx_fast_forward(model, optimizer):
  optimizer.update(model, nnx.grad(nnx_loss)(model))
  predict_nnx.fast_forward(optimizer, model)


def nnx_value_and_grad(model, optimizer):
  value_and_grad = predict_nnx.value_and_grad(nnx_loss)
  _, gradients = value_and_grad(model, state=optimizer.opt_state, skipped=0.0)
  optimizer.update(model, gradients)


# Another form is another line.
FORMS = {
  "per step": in_a_loop(per_step),
  "fast_forward": in_a_loop(fast_forward),
  "accelerate": in_a_loop(every_gradient, optax_predict.accelerate),
  "value_and_grad": in_a_loop(value_and_grad),
  "nnx fast_forward": in_a_module(nnx_fast_forward),
  "nnx value_and_grad": in_a_module(nnx_value_and_grad),
}


# With buffers that are given away, too. The others look at what is traced, or trace
# nothing, or look at numbers as "debug NaN" does.
DONATED = {"as JAX is", "x64", "debug NaN"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_form_runs(form, setting):
  # optax's Adam takes its decays to the power of an integer, which strict
  # promotion refuses without us.
  base = optax.sgd(0.1, momentum=0.9)
  with configured(SETTINGS[setting]):
    for donate in (False, True)[: 2 if setting in DONATED else 1]:
      stats, params = FORMS[form](base, donate)
      assert int(stats.predicted_steps) > 0
      helpers.assert_finite(params)
      assert float(loss_fn(params)) < float(loss_fn(start()))


FORECASTERS = optax_predict.forecasters
PARTS = {
  "momentum": (FORECASTERS.momentum(history_size=5), {}),
  "trend": (FORECASTERS.trend(), {}),
  "holt": (FORECASTERS.holt(), {}),
  "secant": (FORECASTERS.secant(), {}),
  "few directions": (FORECASTERS.secant(4, directions=3), {}),
  "half precision": (None, {"accumulator_dtype": jnp.bfloat16}),
  "correction": (None, {"correction_weight": 0.5}),
  "fixed": (None, {"horizon": optax_predict.horizons.fixed(3)}),
  "phases": (
    None,
    {
      "horizon": optax_predict.horizons.warmup(
        2, optax_predict.horizons.phases(2, 4, 2)
      )
    },
  ),
  "loss": (
    None,
    {
      "horizon": optax_predict.horizons.shorten_on_loss(
        optax_predict.horizons.adaptive()
      )
    },
  ),
}
TREES = {
  "several dtypes": lambda: (
    helpers.nested(np.ones(7)),
    jnp.ones([2, 3], jnp.bfloat16),
  ),
  "complex": lambda: {"z": jnp.ones(3, jnp.complex64), "x": jnp.ones([])},
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_traced_without_promotion(part, tree):
  """Shapes and dtypes are all that these settings look at: nothing is run."""
  forecaster, options = PARTS[part]
  tx = optax.chain(
    optax_predict.predict_gradients(forecaster, **options), optax.sgd(0.125)
  )

  def step(params, state):
    loss = jnp.ones([], jnp.float32)
    updates, state = tx.update(params, state, params, value=loss)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state, value=loss)

  params = TREES[tree]()
  settings = SETTINGS["rank promotion"]
  # A real number times a complex one is a promotion that we need.
  if tree != "complex":
    settings = settings | SETTINGS["dtype promotion"]
  with configured(settings):
    carry = params, tx.init(params)
    assert helpers.types(jax.eval_shape(step, *carry)) == helpers.types(carry)
