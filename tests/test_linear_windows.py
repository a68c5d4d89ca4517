"""Windows of linear bases, whose steps are taken on weights of a few trees."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib
import pytest

import optax_predict
from optax_predict.core import elementwise
from optax_predict.core import linear
from optax_predict.engine import spanned
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

RATE = 0.05
# Enough numbers for a window on weights.
SIZE = spanned._LEAST_NUMBERS
LINEAR = {
  "sgd": optax.sgd(RATE),
  "momentum": optax.sgd(RATE, momentum=0.9),
  "nesterov": optax.sgd(RATE, momentum=0.9, nesterov=True),
  "weight decay": optax.chain(
    optax.add_decayed_weights(0.1), optax.sgd(RATE, momentum=0.9)
  ),
  "decoupled decay": optax.chain(
    optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale(-RATE)
  ),
  "ema": optax.chain(optax.ema(0.9), optax.sgd(RATE)),
  "schedule": optax.sgd(optax.cosine_decay_schedule(RATE, 40), momentum=0.5),
  "injected": optax.inject_hyperparams(optax.sgd)(
    learning_rate=RATE, momentum=0.9
  ),
  "injected schedule": optax.inject_hyperparams(optax.sgd)(
    learning_rate=optax.linear_schedule(RATE, RATE / 2, 20)
  ),
}


def shift():
  """Linear, but each element's update is its neighbour's gradient."""
  return optax.stateless(
    lambda g, p: jax.tree.map(lambda x: jnp.concatenate([x[1:], x[:1]]), g)
  )


def by_name(params):
  return {name: name for name in params}


OTHERS = {
  "adam": optax.adam(RATE),
  "rmsprop": optax.rmsprop(RATE),
  "sign": optax.sign_sgd(RATE),
  "clip": optax.chain(optax.clip(1.0), optax.sgd(RATE)),
  "global norm": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(RATE)),
  "finite only": optax.apply_if_finite(optax.sgd(RATE), 5),
  "two rates": optax.partition(
    {"w": optax.sgd(RATE), "b": optax.sgd(2 * RATE)}, by_name
  ),
  "decay of one": optax.chain(
    optax.add_decayed_weights(0.1, mask={"w": True, "b": False}),
    optax.sgd(RATE),
  ),
  "rounded momentum": optax.sgd(
    RATE, momentum=0.9, accumulator_dtype=jnp.bfloat16
  ),
  "rounded gradient": optax.stateless(
    lambda g, p: jax.tree.map(
      lambda x: x.astype(jnp.bfloat16).astype(x.dtype), g
    )
  ),
  "added number": optax.stateless(
    lambda g, p: jax.tree.map(lambda x: x + 1e-3, g)
  ),
  "rate of each": optax.stateless(
    lambda g, p: jax.tree.map(
      lambda x: x * jnp.arange(x.size, dtype=x.dtype).reshape(x.shape), g
    )
  ),
  "shift": shift(),
  "mean": optax.stateless(lambda g, p: jax.tree.map(lambda x: x - x.mean(), g)),
  "callback": optax.stateless(
    lambda g, p: jax.debug.print("step") or g  # Its effect would be lost.
  ),
}


def small_params():
  return {"b": jnp.zeros([4]), "w": jnp.zeros([3, 2])}


def trace(tx, params):
  args = params, tx.init(params), params
  return linear.act_on_sums(tx.update, args, params), args


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_update_on_weights_is_the_update_of_the_sums(name):
  tx, params = LINEAR[name], small_params()
  on_sums, args = trace(tx, params)
  assert on_sums is not None
  assert on_sums.is_read == (True, name != "sgd", "decay" in name)
  rng = np.random.default_rng(0)
  summands = [
    jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
    for _ in range(3)
  ]

  def at_trees(function, tree, *others):
    return elementwise.map_trees(function, tree, params, *others)

  def add_up(_, weights):
    return jax.tree.map(lambda *x: np.tensordot(weights, x, 1), *summands)

  weights = at_trees(lambda _: rng.normal(size=3).astype(np.float32), args)
  updated = on_sums.apply(*weights)
  wanted = tx.update(*at_trees(add_up, args, weights))
  helpers.assert_close(at_trees(add_up, wanted, updated), wanted)


@pytest.mark.parametrize("name", OTHERS)
def test_another_update_is_not_taken_for_linear(name):
  on_sums, _ = trace(OTHERS[name], small_params())
  assert on_sums is None


@pytest.mark.parametrize(
  "mix",
  [
    lambda g: {"a": g["b"], "b": g["a"]},
    lambda g: {"a": g["a"] + g["b"], "b": g["a"] + g["b"]},
    lambda g: {"a": g["a"] + g["b"], "b": g["b"] + g["b"]},
  ],
  ids=["swapped", "tied", "by the last"],
)
def test_arrays_that_meet_are_not_taken_for_linear(mix):
  on_sums, _ = trace(
    optax.stateless(lambda g, p: mix(g)),
    {"a": jnp.zeros([3]), "b": jnp.zeros([3])},
  )
  assert on_sums is None


def loss_fn(params):
  x = jnp.concatenate([params["w"].ravel(), params["b"]])
  curvature = jnp.logspace(-2, 0, SIZE).astype(x.dtype)
  return jnp.sum(0.5 * curvature * x**2 - 0.1 * jnp.cos(x))


def start(seed=0):
  x = jax.random.normal(jax.random.key(seed), [SIZE])
  return {"b": x[:100], "w": x[100:].reshape(2, -1)}


def run(step, tx, params, calls=8):
  carry, found = (params, tx.init(params)), []
  for _ in range(calls):
    carry = step(*carry)
    found.append(carry)
  return found


def counted(forecaster):
  """The forecaster, and how often its span was asked for."""
  asked = []

  def span(history):
    asked.append(True)
    return forecaster.span(history)

  return forecaster._replace(span=span), asked


def accelerated(forecaster, base):
  tx = optax_predict.accelerate(base, forecaster)

  def step(params, state):
    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    return optax.apply_updates(params, updates), state

  return step, tx, lambda state: state.base_optimizer_state


def chained(forecaster, base):
  tx = optax.chain(optax_predict.predict_gradients(forecaster), base)

  def step(params, state):
    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  # What the window measured, too: lengths and distances decide where it ends.
  return step, tx, lambda state: (state[1:], state[0].window)


def assert_same_calls(build, base, calls=8, scale=1e3):
  """Each call of a run, taken both ways from the same state.

  Not two runs: what rounding makes of one call, later calls multiply. And with as
  many gradients as do not fill the memory: no choice is close.
  """
  plain = optax_predict.forecasters.secant()
  spanning, asked = counted(plain)
  step, tx, of_base = build(spanning, base)
  other_step, _, _ = build(plain._replace(span=None), base)
  step, other_step = jax.jit(step), jax.jit(other_step)
  carry = start(), tx.init(start())
  for _ in range(calls):
    wanted_params, wanted_state = other_step(*carry)
    carry = params, state = step(*carry)
    helpers.assert_close(params, wanted_params, "float64", scale)
    helpers.assert_close(
      of_base(state), of_base(wanted_state), "float64", scale
    )
  assert asked
  assert int(optax_predict.get_stats(state).total_steps) > 3 * calls


@pytest.mark.parametrize("name", LINEAR)
def test_a_window_on_weights_leads_where_one_on_parameters_does(name):
  # A scheduled rate is rounded to float32 where it is injected, and XLA may leave that
  # rounding out of one of the two programs.
  scale = 1e6 if name == "injected schedule" else 1e3
  with helpers.x64(True):
    assert_same_calls(accelerated, LINEAR[name], scale=scale)


def test_fast_forward_takes_such_windows_too():
  with helpers.x64(True):
    assert_same_calls(chained, LINEAR["nesterov"])


def test_fits_side_by_side_take_windows_of_their_own():
  """Under vmap each fit is what it is alone, as long as its window may be."""
  with helpers.x64(True):
    forecaster, asked = counted(optax_predict.forecasters.secant())
    step, tx, _ = accelerated(forecaster, LINEAR["momentum"])
    starts = [start(0), jax.tree.map(lambda x: 3 * x, start(1))]
    params = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    carry = params, jax.vmap(tx.init)(params)
    together = jax.jit(jax.vmap(step))
    for _ in range(6):
      carry = together(*carry)
    assert asked
    for i, begin in enumerate(starts):
      alone, state = run(jax.jit(step), tx, begin, 6)[-1]
      mine, my_state = jax.tree.map(lambda x, i=i: x[i], carry)
      helpers.assert_close(mine, alone, "float64", scale=1e4)
      counts = [
        int(optax_predict.get_stats(s).total_steps) for s in (state, my_state)
      ]
      assert counts[0] == counts[1] > 12


def test_a_base_that_keeps_parameters_is_followed_far_from_zero():
  """Lengths are small differences of what it keeps: in float32 they must be kept so."""
  curvature = jnp.logspace(-2, 0, SIZE)
  lowest = 100 + jax.random.normal(jax.random.key(1), [SIZE])

  def last_loss(forecaster):
    tx = optax_predict.accelerate(contrib.schedule_free_sgd(0.1), forecaster)
    begin = lowest + jax.random.normal(jax.random.key(0), [SIZE])

    def step(carry, _):
      params, state = carry
      gradients = curvature * (params - lowest)
      updates, state = tx.update(gradients, state, params)
      return (optax.apply_updates(params, updates), state), None

    carry = begin, tx.init(begin)
    (params, _), _ = jax.lax.scan(step, carry, length=50)
    return float(0.5 * jnp.sum(curvature * (params - lowest) ** 2))

  forecaster, asked = counted(optax_predict.forecasters.secant())
  found = last_loss(forecaster)
  assert asked
  # It is 14 times as large with the parameters themselves among the summands.
  assert found < 3 * last_loss(forecaster._replace(span=None))


def test_a_momentum_that_is_small_beside_parameters_keeps_its_digits():
  """Not as a difference to them, though the base reads them."""
  base = optax.chain(
    optax.trace(0.9), optax.add_decayed_weights(1e-9), optax.scale(-RATE)
  )
  curvature = jnp.logspace(-2, 0, SIZE)
  lowest = 1000 + jax.random.normal(jax.random.key(1), [SIZE])
  plain = optax_predict.forecasters.secant()
  spanning, asked = counted(plain)
  tx = optax_predict.accelerate(base, spanning)
  other = optax_predict.accelerate(base, plain._replace(span=None))
  params = lowest + jax.random.normal(jax.random.key(0), [SIZE])
  state = tx.init(params)
  update, other_update = jax.jit(tx.update), jax.jit(other.update)
  for _ in range(6):
    gradients = curvature * (params - lowest)
    _, wanted = other_update(gradients, state, params)
    updates, state = update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    trace, wanted = (x.base_optimizer_state[0].trace for x in (state, wanted))
    # As a difference it would be off by a third.
    assert jnp.linalg.norm(trace - wanted) < 0.01 * jnp.linalg.norm(wanted)
  assert asked
