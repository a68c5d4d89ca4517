"""Every wrapper of optax: it predicts, or says no, as docs/compatibility.md says.

The forecaster here is an oracle: the loss is quadratic and its curvature known,
so a predicted gradient equals the true one wherever it is made and used right.
A run with it must then end where the optimizer alone does after as many steps.
A gradient that is lost, doubled, zero, or of another point shows at once.
"""

import inspect
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from tests import helpers
from tests import wrapper_cases
from tests import wrappers

pytestmark = pytest.mark.usefixtures("quick_compilation")

SKIPPED = "a skipped gradient would (not )?reach"
DOC = pathlib.Path(__file__).parent.parent / "docs" / "compatibility.md"
CALLS = 9
STEPS = 24
TARGET = {"w": jnp.array([0.3, -0.4, 0.9]), "b": jnp.array([1.0, -1.0])}
# By the number of parameters: of w, of b, of both in one vector.
CURVATURE = {
  3: np.array([0.2, 0.6, 1.0], np.float32),
  2: np.array([0.5, 0.1], np.float32),
  5: np.array([0.5, 0.1, 0.2, 0.6, 1.0], np.float32),
}


def loss_fn(params):
  parts = jax.tree.map(
    lambda x, t: 0.5 * jnp.sum(CURVATURE[x.size] * (x - t) ** 2), params, TARGET
  )
  return sum(jax.tree.leaves(parts))


def trained(params):
  """The parameters that gradients are taken at."""
  return getattr(params, "fast", params)


def start(case):
  return case.start(
    {"w": jnp.array([1.0, 0.8, 0.2]), "b": jnp.array([0.1, 0.5])}
  )


class Gradient(NamedTuple):
  """The oracle's history: the last true gradient."""

  last: dict


def oracle(decay):
  def predict(history, motion):
    return optax_predict.Forecast(
      jax.tree.map(
        lambda g, dx: g + (CURVATURE[g.size] + decay) * dx,
        history.last,
        motion.displacement,
      )
    )

  return optax_predict.Forecaster(
    init=lambda params, dtype: Gradient(jax.tree.map(jnp.zeros_like, params)),
    observe=lambda gradients, history, motion, forecast: Gradient(gradients),
    predict=predict,
    history_size=1,
    needs_params=True,
  )


def accelerated_run(case):
  """The same of ``CALLS`` calls of ``update``, each with a true gradient."""
  horizon = optax_predict.horizons.adaptive(max_steps=5, max_growth=100.0)

  def accelerate(base):
    return optax_predict.accelerate(base, oracle(0.0), horizon)

  tx = optax.with_extra_args_support(case.build(accelerate))

  def step(carry, _):
    params, state, _ = carry
    value, gradients = jax.value_and_grad(loss_fn)(params)
    extra = {"value": value} if case.needs_value else {}
    updates, state = tx.update(gradients, state, params, **extra)
    return (optax.apply_updates(params, updates), state, value), None

  calls = CALLS * case.every
  params = {"w": jnp.array([1.0, 0.8, 0.2]), "b": jnp.array([0.1, 0.5])}
  (params, state, _), _ = scanned(step, tx, params, calls)
  stats = optax_predict.get_stats(state)
  return params, int(stats.total_steps)


@pytest.mark.parametrize(
  "case",
  wrapper_cases.ACCELERATED,
  ids=[c.name for c in wrapper_cases.ACCELERATED],
)
def test_accelerated_optimizer_answers_as_documented(case):
  if case.outcome == wrapper_cases.ERROR:
    with pytest.raises(ValueError, match=case.message):
      accelerated_run(case)
    return
  params, steps = accelerated_run(case)
  assert steps > CALLS or case.outcome == wrapper_cases.WRONG
  alone_case = wrapper_cases.Case(
    case.name,
    lambda _: case.build(lambda base: base),
    needs_value=case.needs_value,
  )
  wanted = alone(alone_case)(steps * case.every)
  if case.outcome == wrapper_cases.WRONG:
    # Should this fail, the wrapper works now: change its row.
    assert not distance(params, wanted) < 1e-2
    return
  helpers.assert_finite(params)
  if case.outcome == wrapper_cases.CLOSE:
    first = loss_fn(start(alone_case))
    gain = float(first - loss_fn(params))
    assert gain > 0.5 * float(first - loss_fn(wanted))
  else:
    assert distance(params, wanted) < 1e-4


def build(case):
  # A limit that is checked and never reached: what is longer gets shortened.
  horizon = optax_predict.horizons.adaptive(max_steps=5, max_growth=100.0)
  return case.build(
    lambda: optax_predict.predict_gradients(oracle(case.decay), horizon)
  )


def scanned(step, tx, params, length):
  """``scan`` refuses a state whose types change."""
  carry = (params, tx.init(params), jnp.zeros([]))
  return jax.jit(lambda c: jax.lax.scan(step, c, None, length=length))(carry)


def alone(case):
  """The optimizer without prediction: parameters after every step."""
  tx = case.build(optax.identity)

  def step(carry, _):
    params, state, _ = carry
    value, gradients = jax.value_and_grad(loss_fn)(trained(params))
    extra = {"value": value} if case.needs_value else {}
    tx_ = optax.with_extra_args_support(tx)
    updates, state = tx_.update(gradients, state, params, **extra)
    params = optax.apply_updates(params, updates)
    return (params, state, value), params

  _, path = scanned(step, tx, start(case), CALLS * 12)
  return lambda steps: jax.tree.map(lambda x: x[steps - 1], path)


def fast_forward_run(case):
  """Final parameters, optimizer steps and true gradients of ``CALLS`` calls."""
  tx = optax.with_extra_args_support(build(case))

  def step(carry, _):
    params, state, _ = carry
    value, gradients = jax.value_and_grad(loss_fn)(trained(params))
    extra = {"value": value} if case.needs_value else {}
    updates, state = tx.update(gradients, state, params, **extra)
    params = optax.apply_updates(params, updates)
    params, state = optax_predict.fast_forward(tx, params, state, **extra)
    return (params, state, value), None

  (params, state, _), _ = scanned(step, tx, start(case), CALLS)
  predicted = optax_predict.get_stats(state).predicted_steps
  return params, CALLS + int(predicted), CALLS


def per_step_run(case):
  """The same of ``STEPS`` single steps."""
  tx = optax.with_extra_args_support(build(case))
  value_and_grad = optax_predict.value_and_grad(loss_fn)

  def step(carry, _):
    params, state, value = carry
    is_due = optax_predict.should_compute_full(state)
    value, gradients = value_and_grad(
      trained(params), state=state, skipped=value
    )
    extra = {"value": value} if case.needs_value else {}
    updates, state = tx.update(gradients, state, params, **extra)
    return (optax.apply_updates(params, updates), state, value), is_due

  (params, _, _), is_due = scanned(step, tx, start(case), STEPS)
  return params, STEPS, int(jnp.sum(is_due))


RUNS = {"fast_forward": fast_forward_run, "per_step": per_step_run}


def distance(params, wanted):
  return max(
    float(jnp.max(jnp.abs(p - w)))
    for p, w in zip(jax.tree.leaves(params), jax.tree.leaves(wanted))
  )


@pytest.fixture(scope="module")
def alone_runs():
  return {}


@pytest.mark.parametrize("form", RUNS)
@pytest.mark.parametrize(
  "case", wrapper_cases.CASES, ids=[c.name for c in wrapper_cases.CASES]
)
def test_wrapper_answers_as_documented(case, form, alone_runs):
  outcome = getattr(case, form)
  if outcome == wrapper_cases.ERROR:
    with pytest.raises((TypeError, ValueError), match=case.message):
      RUNS[form](case)
    return
  if outcome == wrapper_cases.REFUSED and form == "fast_forward":
    with pytest.raises(ValueError, match=SKIPPED):
      RUNS[form](case)
    return
  params, steps, evaluations = RUNS[form](case)
  assert (steps == evaluations) == (outcome == wrapper_cases.NONE)
  if case.name not in alone_runs:
    alone_runs[case.name] = alone(case)
  wanted = alone_runs[case.name](steps)
  if outcome in (wrapper_cases.WRONG, wrapper_cases.REFUSED):
    # Should this fail, the wrapper works now: change its row.
    assert not distance(params, wanted) < 1e-2
    return
  helpers.assert_finite(params)
  if outcome == wrapper_cases.CLOSE:
    first = loss_fn(trained(start(case)))
    gain = float(first - loss_fn(trained(params)))
    assert gain > 0.5 * float(first - loss_fn(trained(wanted)))
  else:
    assert distance(params, wanted) < 1e-4


@pytest.mark.parametrize(
  "case",
  [
    c
    for c in wrapper_cases.CASES
    # It makes a new state inside its update, which is not a traced one.
    if c.per_step != wrapper_cases.ERROR and "reset_state" not in c.name
  ],
  ids=lambda c: c.name,
)
def test_check_chain_refuses_what_the_table_says(case):
  params = start(case)
  options = {"value": jnp.ones([])} if case.needs_value else {}

  def check():
    optax_predict.check_chain(
      build(case), params, gradients=trained(params), **options
    )

  if case.per_step == wrapper_cases.REFUSED:
    with pytest.raises(ValueError, match=SKIPPED):
      check()
  else:
    check()


def test_check_chain_names_what_is_reached():
  tx = optax.chain(
    optax.scale_by_adam(), optax_predict.predict_gradients(), optax.sgd(0.1)
  )
  with pytest.raises(ValueError, match=r"state\[0\]\.mu\['w'\]"):
    optax_predict.check_chain(tx, {"w": jnp.ones(2)})


def test_a_condition_elsewhere_hides_nothing():
  tx = optax.chain(
    optax.ema(0.9),
    optax_predict.predict_gradients(),
    optax.sgd(0.1),
    optax.conditionally_transform(optax.scale(0.5), lambda step: step % 2 == 0),
  )
  params = jnp.ones(2)
  with pytest.raises(ValueError, match=r"state\[0\]\.ema"):
    optax_predict.fast_forward(tx, params, tx.init(params))


def test_check_chain_wants_a_predictor():
  with pytest.raises(ValueError, match="holds no predictor's state"):
    optax_predict.check_chain(optax.adam(0.1), jnp.ones(2))
  with pytest.raises(TypeError, match="tx"):
    optax_predict.check_chain(jnp.ones(2), optax.adam(0.1))


def test_every_wrapper_is_listed():
  """Whatever takes another transformation has a row, or one under a new name."""
  others = {
    *("inject_stateful_hyperparams", "multi_transform"),  # older names
    *("with_extra_args_support", "monitor"),  # do nothing to gradients
    *("galore", "scale_by_galore", "sophia"),  # among the optimizers
  }
  found = {
    name
    for module in (optax, optax.contrib)
    for name, value in vars(module).items()
    if callable(value) and _takes_a_transformation(value)
  }
  assert len(found) > 15
  listed = " ".join(case.name for case in wrapper_cases.CASES)
  assert {name for name in found - others if name not in listed} == set()


def _takes_a_transformation(value):
  try:
    parameters = inspect.signature(value).parameters
  except (TypeError, ValueError):
    return False
  return "inner_factory" in parameters or any(
    "Transformation" in str(p.annotation) for p in parameters.values()
  )


def test_document_has_the_tables():
  text = DOC.read_text()
  assert wrappers.written(text) == text, (
    "run: python -m tests.wrappers docs/compatibility.md"
  )
