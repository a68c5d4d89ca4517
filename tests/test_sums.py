"""Long leaves: inner products against float64, and a whole run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from optax_predict.core import reductions


@pytest.mark.parametrize(
  "shape",
  [
    *((), (0,), (5,), (4097,), (1 << 20,), (1024, 1024), (3, 1 << 18)),
    # Lengths without a factor to cut them by, and axes that are long or short.
    *((1_000_003,), (1 << 20, 1), (300_007, 3), (2, 500_009), (7, 40_009, 5)),
  ],
)
def test_a_long_sum_is_as_good_as_a_short_one(shape):
  rng = np.random.default_rng(0)
  vectors = [rng.normal(size=shape).astype(np.float32) for _ in range(6)]
  pairs = [(jnp.asarray(x), jnp.asarray(vectors[0])) for x in vectors]
  found = jax.jit(reductions.inner_products)(pairs)
  wide = [np.float64(x).ravel() for x in vectors]
  wanted = [x @ wide[0] for x in wide]
  # One by one, the sum of a million squares is off by 4e-4.
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * wanted[0])


def test_ten_million_numbers_are_predicted_as_the_four_they_repeat():
  """Errors and windows are ratios of norms: how many numbers there are is nothing."""
  curvatures = jnp.array([1.0, 0.3, 0.1, 0.03])
  tx = optax.chain(
    optax_predict.predict_gradients(optax_predict.forecasters.secant(2)),
    optax.sgd(0.9),
  )

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state):
    gradients = (curvatures * params.reshape(-1, 4)).reshape(params.shape)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  def run(count):
    params = jnp.tile(jnp.array([1.0, -2.0, 3.0, 0.5]), count)
    state = tx.init(params)
    for _ in range(6):
      params, state = step(params, state)
    return params, optax_predict.get_stats(state)

  few_params, few_stats = run(1)
  params, stats = run(2_500_000)
  assert params.size == 10_000_000
  assert int(stats.predicted_steps) == int(few_stats.predicted_steps) > 5
  rows = np.asarray(params).reshape(-1, 4)
  assert np.ptp(rows, axis=0).max() == 0
  np.testing.assert_allclose(rows[0], few_params, rtol=1e-3, atol=1e-5)
