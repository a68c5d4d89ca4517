"""Around, and chained before, the optimizers of optax and optax.contrib."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Everything that takes plain gradients, with a rate that suits the problem.
OPTIMIZERS = {
  "adabelief": lambda: optax.adabelief(0.05),
  "adadelta": lambda: optax.adadelta(1.0),
  "adafactor": lambda: optax.adafactor(0.05),
  "adagrad": lambda: optax.adagrad(0.3),
  "adam": lambda: optax.adam(0.05),
  "adamax": lambda: optax.adamax(0.05),
  "adamaxw": lambda: optax.adamaxw(0.05),
  "adamw": lambda: optax.adamw(0.05),
  "adan": lambda: optax.adan(0.05),
  "amsgrad": lambda: optax.amsgrad(0.05),
  "fromage": lambda: optax.fromage(0.02),
  "lamb": lambda: optax.lamb(0.02),
  "lars": lambda: optax.lars(0.5),
  "lion": lambda: optax.lion(0.01),
  "nadam": lambda: optax.nadam(0.05),
  "nadamw": lambda: optax.nadamw(0.05),
  "noisy_sgd": lambda: optax.noisy_sgd(0.05, eta=1e-4, key=0),
  "novograd": lambda: optax.novograd(0.05),
  "optimistic_adam_v2": lambda: optax.optimistic_adam_v2(0.02),
  "optimistic_gradient_descent": (
    lambda: optax.optimistic_gradient_descent(0.1)
  ),
  "radam": lambda: optax.radam(0.05),
  "rmsprop": lambda: optax.rmsprop(0.02),
  "rprop": lambda: optax.rprop(0.01),
  "sgd": lambda: optax.sgd(0.3),
  "sgd with momentum": lambda: optax.sgd(0.05, momentum=0.9),
  "sgd with nesterov": lambda: optax.sgd(0.05, momentum=0.9, nesterov=True),
  "sign_sgd": lambda: optax.sign_sgd(0.01),
  "signum": lambda: optax.signum(0.01),
  "sm3": lambda: optax.sm3(0.3),
  "yogi": lambda: optax.yogi(0.05),
  "acprop": lambda: contrib.acprop(0.02),
  "ademamix": lambda: contrib.ademamix(0.02),
  "adopt": lambda: contrib.adopt(0.02),
  "cocob": contrib.cocob,
  "dadapt_adamw": lambda: contrib.dadapt_adamw(1.0),
  "dog": lambda: contrib.dog(1.0),
  "dowg": lambda: contrib.dowg(1.0),
  "galore": lambda: contrib.galore(0.02, rank=2),
  "madgrad": lambda: contrib.madgrad(0.02),
  "muon": lambda: contrib.muon(0.02),
  "prodigy": lambda: contrib.prodigy(1.0),
  "schedule_free_adamw": lambda: contrib.schedule_free_adamw(0.05),
  "schedule_free_sgd": lambda: contrib.schedule_free_sgd(0.3),
  "simplified_ademamix": lambda: contrib.simplified_ademamix(0.002),
}

# These read the loss: they work where `value` is passed on, the last known one
# for a predicted step.
NEED_VALUE = {
  "momo": lambda: contrib.momo(0.3),
  "momo_adam": lambda: contrib.momo_adam(0.05),
  "polyak_sgd": lambda: optax.polyak_sgd(0.3),
  "sgd with reduce_on_plateau": lambda: optax.chain(
    optax.sgd(0.3), contrib.reduce_on_plateau(patience=40)
  ),
}

# These evaluate the loss themselves, at points of their own choice.
NEED_VALUE_FN = {
  "lbfgs": (optax.lbfgs, "evaluates the loss", "value"),
  "sophia": (lambda: contrib.sophia(1e-3), "obj_fn", "obj_fn"),
}

# Of each kind one, where the form makes a difference: matrices, signs, averages.
CHAINED = ("adafactor", "adam", "galore", "lion", "muon", "schedule_free_sgd")


def least_squares():
  rng = np.random.default_rng(0)
  a = jnp.asarray(rng.normal(size=(12, 6)) / 4, jnp.float32)
  target = a @ jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)

  def loss(params):
    return jnp.mean((a @ params["w"] + params["b"] - target) ** 2)

  start = rng.normal(size=(6, 3))
  params = {"w": jnp.asarray(start, jnp.float32), "b": jnp.ones(3)}
  return loss, params


def accelerated(base, forecaster):
  return optax_predict.accelerate(base, forecaster)


def chained(base, forecaster):
  return optax.chain(optax_predict.predict_gradients(forecaster), base)


def train(base, form, needs_value=False):
  loss, params = least_squares()
  tx = form(base, optax_predict.forecasters.secant(memory=2))

  @jax.jit
  def step(params, state):
    value, gradients = jax.value_and_grad(loss)(params)
    extra = {"value": value} if needs_value else {}
    updates, state = tx.update(gradients, state, params, **extra)
    params = optax.apply_updates(params, updates)
    if form is accelerated:
      return params, state
    return optax_predict.fast_forward(tx, params, state, **extra)

  state = jax.jit(tx.init)(params)
  first = float(loss(params))
  params, state = step(params, state)
  before = helpers.types((params, state))
  for _ in range(199):
    params, state = step(params, state)
  assert helpers.types((params, state)) == before
  assert step._cache_size() <= 2  # weak types of optax's own first state
  helpers.assert_finite(params)
  assert float(loss(params)) < 0.9 * first
  stats = optax_predict.get_stats(state)
  assert int(stats.computed_steps) == 200
  assert int(stats.predicted_steps) > 20


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_of_plain_gradients(name):
  train(OPTIMIZERS[name](), accelerated)


@pytest.mark.parametrize("name", NEED_VALUE)
def test_optimizer_that_reads_the_loss(name):
  train(NEED_VALUE[name](), accelerated, needs_value=True)


@pytest.mark.parametrize("name", CHAINED)
def test_optimizer_behind_the_predictor(name):
  train(OPTIMIZERS[name](), chained)


def test_optimizer_that_reads_the_loss_behind_the_predictor():
  train(NEED_VALUE["momo"](), chained, needs_value=True)


@pytest.mark.parametrize("name", NEED_VALUE_FN)
def test_optimizer_that_evaluates_the_loss_says_what_it_misses(name):
  base, *messages = NEED_VALUE_FN[name]
  for form, message in zip((accelerated, chained), messages, strict=True):
    with pytest.raises((TypeError, ValueError), match=message):
      train(base(), form)


def test_every_optimizer_is_listed():
  listed = {*OPTIMIZERS, *NEED_VALUE, *NEED_VALUE_FN}
  factories = {
    name
    for module in (optax, contrib)
    for name, value in vars(module).items()
    if callable(value)
    and not isinstance(value, type)
    and not name.startswith(("_", "scale_by_"))
    and getattr(value, "__module__", "").startswith("optax")
    and "learning_rate" in getattr(value, "__annotations__", {})
  }
  assert len(factories) > 30
  # Per-example gradients; a wrapper; deprecated for optimistic_adam_v2.
  others = {"dpsgd", "schedule_free", "optimistic_adam"}
  assert factories - listed - others == set()
