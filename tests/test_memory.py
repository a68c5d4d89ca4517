"""How large the state is, in which precision, and that it can be donated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from tests import helpers

SIZE = 1000
FORECASTERS = optax_predict.forecasters
HORIZONS = optax_predict.horizons

# Trees like the parameters: (in the parameters' dtype, in the history's).
RULES = {
  "momentum, fixed": (FORECASTERS.momentum(), HORIZONS.fixed(), 0, (0, 2)),
  "momentum, adaptive": (
    FORECASTERS.momentum(history_size=4),
    HORIZONS.adaptive(),
    0,
    (2, 4),
  ),
  "holt, adaptive": (FORECASTERS.holt(), HORIZONS.adaptive(), 0, (3, 1)),
  "trend, adaptive": (FORECASTERS.trend(), HORIZONS.adaptive(), 0, (3, 2)),
  "secant, fixed": (FORECASTERS.secant(2), HORIZONS.fixed(), 0, (2, 2)),
  "secant, takes nothing back": (
    FORECASTERS.secant(2),
    HORIZONS.adaptive(max_error=None),
    0,
    (2, 2),
  ),
  "secant, directions": (
    FORECASTERS.secant(2, directions=3),
    HORIZONS.adaptive(),
    0,
    (3, 3),
  ),
  "default": (None, None, 0, (3, 10)),
  "default, correction": (None, None, 0.5, (4, 10)),
}
MEMORY = {"default": 10, "default, correction": 10}


def params(size=SIZE, dtype="float32"):
  half = size // 2
  matrix = jnp.ones((2, half // 2 - 1), dtype)
  return {"a": jnp.ones(half, dtype), "b": [matrix, jnp.ones(2, dtype)]}


def transform(rule, dtype=None):
  forecaster, horizon, weight, _ = RULES[rule]
  return optax_predict.predict_gradients(
    forecaster, horizon, correction_weight=weight, accumulator_dtype=dtype
  )


def nbytes(tree):
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("history_dtype", [None, "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_state_is_as_large_as_its_formula_says(rule, dtype, history_dtype):
  own, in_history = RULES[rule][-1]
  with helpers.x64(True):
    init = transform(rule, history_dtype).init
    state = jax.eval_shape(init, params(dtype=dtype))
    smaller = jax.eval_shape(init, params(100, dtype))
    width = jnp.dtype(dtype).itemsize
    history_width = jnp.dtype(history_dtype or dtype).itemsize
    per_parameter = own * width + in_history * history_width
    assert nbytes(state) - nbytes(smaller) == (SIZE - 100) * per_parameter
    # What does not grow with the model: counts, coordinates, m x m matrices.
    m = MEMORY.get(rule, 2)
    assert nbytes(state) - SIZE * per_parameter <= 8 * (11 * m * m + 3 * m + 64)


@pytest.mark.parametrize("rule", ["momentum, adaptive", "secant, directions"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_bfloat16_history_stays_bfloat16_and_learns(rule, dtype):
  """Only the history is short; the run still takes predicted steps."""
  weights = np.logspace(-1.5, 0, 5)

  with helpers.x64(dtype == "float64"):
    tx = optax.chain(transform(rule, jnp.bfloat16), optax.sgd(0.9))

    @jax.jit
    def step(x, state):
      loss, gradient = jax.value_and_grad(
        lambda x: 0.5 * jnp.sum(jnp.asarray(weights, dtype) * x**2)
      )(x)
      updates, state = tx.update(gradient, state, x)
      x = optax.apply_updates(x, updates)
      return *optax_predict.fast_forward(tx, x, state), loss

    x = jnp.ones(5, dtype)
    state = tx.init(x)
    before = helpers.types((x, state))
    losses = []
    for _ in range(25):
      x, state, loss = step(x, state)
      losses.append(float(loss))
    assert helpers.types((x, state)) == before
    shapes = [s.dtype.name for s in jax.tree.leaves(state) if s.shape == (5,)]
    assert shapes.count("bfloat16") == RULES[rule][-1][1]
    assert set(shapes) == {"bfloat16", dtype}
    stats = optax_predict.get_stats(state)
    assert int(stats.predicted_steps) > 25
    # Of an 0.9 step on the flattest direction alone, 25 true gradients leave
    # (1 - 0.9 * 0.0316)^50 = 0.24 of that direction's share.
    plain = 0.5 * np.sum(weights * (1 - 0.9 * weights) ** 48)
    assert losses[-1] < plain


def step_of(tx):
  def step(params, state):
    gradients = jax.tree.map(lambda x: 0.1 * x, params)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  return step


def assert_no_shared_buffers(tree):
  pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]
  assert len(set(pointers)) == len(pointers) > 5


@pytest.mark.parametrize("max_error", [None, 3.0])
@pytest.mark.parametrize(
  "forecaster",
  [
    FORECASTERS.momentum(),
    FORECASTERS.secant(memory=2),
  ],
)
def test_params_and_state_can_be_donated(forecaster, max_error):
  horizon = HORIZONS.adaptive(max_error=max_error)
  predict = optax_predict.predict_gradients(forecaster, horizon)
  tx = optax.chain(predict, optax.adam(0.1))
  carry = {"a": jnp.ones((2, SIZE))}, tx.init({"a": jnp.ones((2, SIZE))})
  assert_no_shared_buffers(carry)
  compiled = jax.jit(step_of(tx), donate_argnums=(0, 1)).lower(*carry).compile()
  # Every donated byte is used again for the result.
  used_again = compiled.memory_analysis().alias_size_in_bytes
  assert used_again >= 0.99 * nbytes(carry)
  for _ in range(3):
    given, carry = carry, compiled(*carry)
    assert all(x.is_deleted() for x in jax.tree.leaves(given))
    assert_no_shared_buffers(carry)
  helpers.assert_finite(carry)


def test_a_state_beside_its_params_can_be_donated():
  """The kept parameters are a copy: donating one buffer twice is an error."""
  tx = optax.chain(transform("momentum, adaptive"), optax.adam(0.1))
  p = {"a": jnp.ones((2, SIZE))}
  _, state = jax.jit(tx.update)(p, tx.init(p), p)
  np.testing.assert_array_equal(state[0].anchor.params["a"], p["a"])
  assert_no_shared_buffers((p, state))
