"""Mistakes of a caller: refused with what to do, or harmless."""

import jax
import jax.numpy as jnp
import optax
import pytest

import optax_predict
from optax_predict import forecasters
from optax_predict import horizons
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")


def predict(forecaster=None, horizon=None, **options):
  forecaster = forecasters.secant(2) if forecaster is None else forecaster
  return optax_predict.predict_gradients(forecaster, horizon, **options)


def optimizer(*args, **options):
  return optax.chain(predict(*args, **options), optax.sgd(0.1))


def params():
  return {"a": jnp.ones(3), "b": jnp.ones(2)}


def loss_fn(p):
  return 0.5 * jnp.sum(p["a"] ** 2) + 0.05 * jnp.sum(p["b"] ** 2)


def update_with(state):
  return optimizer().update(params(), state, params())


OTHER_STATES = {
  "of another memory": lambda: optimizer(forecasters.secant(3)),
  "of another forecaster": lambda: optimizer(forecasters.momentum()),
  "of another horizon": lambda: optimizer(horizon=horizons.fixed()),
  "of another optimizer": lambda: optax.adam(0.1),
}


@pytest.mark.parametrize("name", OTHER_STATES)
@pytest.mark.parametrize("compiled", [False, True])
def test_state_of_another_predictor_is_refused(name, compiled):
  state = OTHER_STATES[name]().init(params())
  update = jax.jit(update_with) if compiled else update_with
  with pytest.raises(
    (TypeError, ValueError), match=r"state.*init.*(again|returned)"
  ):
    update(state)


def test_compiled_step_refuses_a_stale_state_too():
  """A restored state of another memory meets a step compiled before."""
  update = jax.jit(update_with)
  update(optimizer().init(params()))
  stale = optimizer(forecasters.secant(3)).init(params())
  with pytest.raises(
    (TypeError, ValueError), match=r"state: it was made with another.*again"
  ):
    update(stale)


MISTAKES = {
  "state of fewer parameters": (
    lambda: update_with(optimizer().init({"a": jnp.ones(3)})),
    r"leaf \['b'\] is not in the state.*init\(params\) again",
  ),
  "gradient without a leaf": (
    lambda: optimizer().update(
      {"a": jnp.ones(3), "b": None}, optimizer().init(params()), params()
    ),
    r"gradients: leaf \['b'\] is missing",
  ),
  "no gradients": (
    lambda: optimizer().update(None, optimizer().init(params()), params()),
    r"gradients: leaf \['a'\] is missing",
  ),
  "list for a tuple": (
    lambda: predict().update(
      [jnp.ones(3)], predict().init((jnp.ones(3),)), (jnp.ones(3),)
    ),
    "other containers than the state's.*init\\(params\\) again",
  ),
  "params and state swapped": (
    lambda: optax_predict.fast_forward(
      optimizer(), optimizer().init(params()), params()
    ),
    "holds no predictor's state.*predict_gradients.*got dict",
  ),
  "state of a predictor alone": (
    lambda: optax_predict.fast_forward(
      optax.adam(0.1), params(), predict().init(params())
    ),
    "not a state of tx.*optimizer that predict_gradients.. stands in",
  ),
  "state of another base": (
    lambda: optax_predict.fast_forward(
      optax.chain(predict(), optax.adam(0.1)), params(), in_a_window()
    ),
    "not a state of tx.*state that its init or its last update returned",
  ),
  "gradients of another shape": (
    lambda: optimizer().update(
      {"a": jnp.ones(2), "b": jnp.ones(2)},
      optimizer().init(params()),
      params(),
    ),
    r"gradients: leaf \['a'\] has shape \(2,\).*Pass gradients of those that",
  ),
  "parameters of another tree": (
    lambda: optax_predict.fast_forward(
      optimizer(), {"a": jnp.ones(3)}, in_a_window()
    ),
    r"params: leaf \['b'\] is missing",
  ),
  "statistics of parameters": (
    lambda: optax_predict.get_stats(params()),
    "holds no predictor's state.*got dict",
  ),
  "state given by position": (
    lambda: optax_predict.value_and_grad(loss_fn)(params(), in_a_window()),
    r"state= is missing.*state=opt_state",
  ),
  "a factory that was not called": (
    lambda: optax_predict.predict_gradients(forecasters.secant),
    "forecaster must be a Forecaster.*Build one with",
  ),
  "a horizon where the forecaster goes": (
    lambda: optax_predict.predict_gradients(horizons.adaptive()),
    "forecaster must be a Forecaster, got Horizon..*pass it as forecaster=",
  ),
  "parameters of another dtype than at init": (
    lambda: optimizer().update(
      params(),
      optimizer().init(params()),
      jax.tree.map(lambda x: x.astype(jnp.bfloat16), params()),
    ),
    r"state: its .*\['a'\] has dtype float32, but init makes it bfloat16.*Cast",
  ),
  "integer gradients": (
    lambda: optimizer().update(
      jax.tree.map(lambda x: x.astype(jnp.int32), params()),
      optimizer().init(params()),
      params(),
    ),
    r"gradients: leaf \['a'\] is of dtype int32.*Cast it",
  ),
  "text for a parameter": (
    lambda: optimizer().init({"a": "x"}),
    r"parameter \['a'\] is 'x', but gradients can only",
  ),
  "no optimizer": (
    lambda: optax_predict.fast_forward(params(), params(), in_a_window()),
    "tx must be the optimizer.*got dict.*fast_forward\\(tx, params, opt_state",
  ),
  "arguments of measure in another order": (
    lambda: optax_predict.predictability.measure(
      params(), loss_fn, optax.sgd(0.1)
    ),
    "loss_fn must be a function, got dict.*measure.loss_fn, params, optimizer",
  ),
  "a rate for the optimizer": (
    lambda: optax_predict.predictability.measure(loss_fn, params(), 0.1),
    "optimizer must be the optimizer.*got float.*measure",
  ),
  "memory injected as a hyperparameter": (
    lambda: optax.inject_hyperparams(
      lambda memory: predict(forecasters.secant(memory))
    )(memory=3).init(params()),
    "memory must be an integer",
  ),
}


def in_a_window():
  """A state in which a predicted step is next."""
  tx = optimizer(horizon=horizons.fixed(4, min_correlation=-1.0))
  state = tx.init(params())
  for _ in range(2):
    _, state = tx.update(params(), state, params())
  assert not optax_predict.should_compute_full(state)
  return state


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named(name):
  call, message = MISTAKES[name]
  with pytest.raises((TypeError, ValueError), match=message):
    call()


def test_a_state_that_works_is_not_refused():
  """Another structure, but no harm: a schedule's state for a constant rate."""
  scheduled = optax.chain(predict(), optax.sgd(lambda step: 0.1))
  state = scheduled.init(params())
  optax_predict.fast_forward(optimizer(), params(), state)


def test_an_init_that_reads_numbers_is_left_alone():
  base = optax.sgd(0.1)

  def init(params):
    assert float(params["a"][0]) == 1
    return base.init(params)

  tx = optax.chain(predict(), optax.GradientTransformation(init, base.update))
  optax_predict.fast_forward(tx, params(), tx.init(params()))


def test_parameters_are_not_optional():
  tx = optimizer()
  with pytest.raises(TypeError, match="params"):
    optax_predict.fast_forward(tx, opt_state=tx.init(params()))


# Not where a predictor belongs, and no skipped gradient is used.
PLACES = {
  "after clipping": lambda: optax.chain(
    optax.clip_by_global_norm(1.0), predict(), optax.sgd(0.2)
  ),
  "twice": lambda: optax.chain(predict(), optimizer()),
  "inside MultiSteps": lambda: optax.MultiSteps(optimizer(), 2),
  "before MultiSteps": lambda: optax.chain(
    predict(), optax.MultiSteps(optax.sgd(0.2), 2)
  ),
}


@pytest.mark.parametrize("name", PLACES)
def test_wrong_place_in_the_chain_stays_finite_and_descends(name):
  tx = PLACES[name]()

  @jax.jit
  def step(p, state):
    updates, state = tx.update(jax.grad(loss_fn)(p), state, p)
    p = optax.apply_updates(p, updates)
    return optax_predict.fast_forward(tx, p, state)

  p = params()
  state = tx.init(p)
  for _ in range(40):
    p, state = step(p, state)
    assert bool(optax_predict.should_compute_full(state))
  helpers.assert_finite((p, state))
  assert float(loss_fn(p)) < 0.5 * float(loss_fn(params()))
