"""Losses that rise like a wall, or end at one: windows that cross it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")


def rising(x):
  """Its gradient is 1e18 where a window may lead."""
  return jnp.sum(jnp.exp(4.67 * (x - 1)) - x)


def ending(x):
  """A root that ends at 1: beyond it neither loss nor gradient is finite."""
  return jnp.sum(-0.1 * jnp.sqrt(1 - x) - x)


def unseen(x):
  """A logarithm that ends at 1: beyond it the gradient is finite, the loss is not."""
  return jnp.sum(-1e-2 * jnp.log(1 - x) - x)


# Loss, where runs begin, and the least loss, by hand.
WALLS = {
  "rising": (rising, -3.0, 3 * (1 / 4.67 - 1 + np.log(4.67) / 4.67)),
  "ending": (ending, -3.0, -3 * (1 + 0.1**2 / 4)),
  "unseen": (unseen, -3.0, 3 * (-1e-2 * np.log(1e-2) - 0.99)),
}
RATES = {"rising": 2.64e-3, "ending": 1e-3, "unseen": 1e-3}


def accelerated(base):
  tx = optax_predict.accelerate(base)

  def step(x, state, value, gradient):
    updates, state = tx.update(gradient, state, x, value=value)
    return optax.apply_updates(x, updates), state

  return tx.init, step


def fast_forwarded(base):
  tx = optax.chain(optax_predict.predict_gradients(), base)

  def step(x, state, value, gradient):
    updates, state = tx.update(gradient, state, x, value=value)
    x = optax.apply_updates(x, updates)
    return optax_predict.fast_forward(tx, x, state, value=value)

  return tx.init, step


def losses(form, name, calls):
  loss, start, _ = WALLS[name]
  init, step = form(optax.sgd(RATES[name]))

  def call(carry, _):
    x, state = carry
    value, gradient = jax.value_and_grad(loss)(x)
    return step(x, state, value, gradient), value

  x = start * jnp.array([1.0, 1.1, 0.9])
  return np.asarray(
    jax.jit(lambda c: jax.lax.scan(call, c, None, calls))((x, init(x)))[1]
  )


@pytest.mark.parametrize("form", [accelerated, fast_forwarded])
@pytest.mark.parametrize("name", WALLS)
def test_a_wall_is_met_and_left_behind(name, form):
  """Alone, these rates take thousands of gradients."""
  found = losses(form, name, 200)
  np.testing.assert_allclose(found[-1], WALLS[name][2], rtol=1e-4)
  # The horizon learns from each window that crossed it.
  assert np.mean(~np.isfinite(found)) < 0.3


def test_a_horizon_hears_once_of_a_window_that_led_to_what_is_not_finite():
  heard = []

  def update(error, state):
    jax.debug.callback(
      lambda *x: heard.append([float(v) for v in x]),
      *(error.relative_error, error.growth, error.slope, error.window_steps),
    )
    return jnp.where(error.history_size > 0, 4, 0).astype(jnp.int32), state

  horizon = optax_predict.Horizon(
    lambda: jnp.zeros([]), update, max_growth=9.0, max_error=3.0
  )
  tx = optax_predict.accelerate(
    optax.sgd(0.25), optax_predict.forecasters.momentum(0.0), horizon
  )
  x = jnp.ones(3)
  state = tx.init(x)
  for value in (1.0, 1.0, jnp.nan, 1.0, 1.0):
    updates, state = tx.update(jnp.ones(3), state, x, value=value)
    x = optax.apply_updates(x, updates)
  jax.effects_barrier()
  failed, after = heard[2:]
  np.testing.assert_allclose(failed, [1e6, 1e6, 0.0, 1.0])
  np.testing.assert_allclose(after, [0.0, 1.0, -1.0, 4.0], atol=1e-6)


def test_a_window_is_taken_back_only_if_what_it_led_to_is_handed_over():
  """As with ``apply_if_finite`` outside, which leaves the call out."""
  horizon = optax_predict.horizons.fixed(4)._replace(max_error=3.0)

  def accelerate(base):
    forecaster = optax_predict.forecasters.momentum(0.0)
    return optax_predict.accelerate(base, forecaster, horizon)

  def end(tx):
    x = jnp.zeros(3)
    state = tx.init(x)
    for factor in (1.0, 1.0, jnp.nan):
      updates, state = tx.update(factor * jnp.ones(3), state, x)
      x = optax.apply_updates(x, updates)
    return x

  base = optax.sgd(0.25)
  inside = jax.jit(lambda: end(accelerate(optax.apply_if_finite(base, 5))))()
  outside = jax.jit(lambda: end(optax.apply_if_finite(accelerate(base), 5)))()
  # Two steps from true gradients, and four predicted ones.
  np.testing.assert_allclose(inside, -0.25 * 2 * np.ones(3))
  np.testing.assert_allclose(outside, -0.25 * 6 * np.ones(3))


def test_no_window_leads_farther_than_it_may():
  """One forecast serves many steps; the rate is a hundred times as large at last."""
  horizon = optax_predict.horizons.adaptive()
  slope = jnp.array([1.0, 0.5, 0.2])

  def loss(x):
    return slope @ x + 1e-4 * jnp.sum(x**2)

  base = optax.inject_hyperparams(optax.sgd)(1e-3)
  tx = optax.chain(optax_predict.predict_gradients(horizon=horizon), base)

  @jax.jit
  def step(x, state):
    updates, state = tx.update(jax.grad(loss)(x), state, x)
    x = optax.apply_updates(x, updates)
    end, state = optax_predict.fast_forward(tx, x, state)
    return end, state

  x = jnp.zeros(3)
  state, ratios = tx.init(x), []
  for call in range(8):
    if call == 4:
      state = optax.tree.set(state, learning_rate=0.1)
    end, state = step(x, state)
    reach = float(state[0].window.reach)
    if reach > 0:
      # And the step that ends it there, of 0.1 of a gradient of 1.2 at most.
      ratios.append((float(jnp.linalg.norm(end - x)) - 0.2) / reach)
    x = end
  assert len(ratios) > 4
  # As far as it may, and no farther.
  assert 0.9 < max(ratios) < 1.01


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("dtypes", [("bfloat16",) * 2, ("float32", "bfloat16")])
def test_coarse_parameters_are_recognized_at_the_end_of_a_window(dtypes, count):
  """Of parameters and gradients; the way and its sum are rounded."""
  horizon = optax_predict.horizons.fixed(12)._replace(max_error=3.0)
  tx = optax_predict.accelerate(
    optax.sgd(0.1), optax_predict.forecasters.momentum(0.0), horizon
  )
  rng = np.random.default_rng(0)
  starts = jnp.asarray(rng.normal(size=(50, count)), dtypes[0])
  shares = jnp.asarray(rng.uniform(0.2, 1.3, size=(50, 1)), dtypes[1])

  def end(x, gradient):
    state = tx.init(x)
    for factor in (1, 1, jnp.nan):
      updates, state = tx.update(
        gradient * jnp.asarray(factor, gradient.dtype), state, x
      )
      x = optax.apply_updates(x, updates)
    return x

  found = jax.jit(jax.vmap(end))(starts, starts.astype(dtypes[1]) * shares)
  helpers.assert_finite(found)


def test_a_base_that_widens_its_state_keeps_the_dtypes_of_init():
  """Adam makes its moments like the parameters, and keeps them like the gradients."""
  params = {"w": jnp.ones((3, 4), jnp.bfloat16), "b": jnp.ones(2, jnp.bfloat16)}
  gradients = jax.tree.map(lambda x: x.astype(jnp.float32), params)
  for tree, grads in (
    (params, gradients),
    (params["w"], gradients["w"]),
    (params | {"b": gradients["b"]}, gradients),
  ):
    tx = optax_predict.accelerate(optax.adam(1e-2))
    state = tx.init(tree)
    wanted = helpers.types(state)
    for _ in range(3):
      updates, state = tx.update(grads, state, tree)
      tree = optax.apply_updates(tree, updates)
      assert helpers.types(state) == wanted
    helpers.assert_finite(tree)
