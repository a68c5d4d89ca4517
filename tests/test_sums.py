"""Inner products of long leaves, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_predict import _sums


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
  found = jax.jit(_sums.inner_products)(pairs)
  wide = [np.float64(x).ravel() for x in vectors]
  wanted = [x @ wide[0] for x in wide]
  # One by one, the sum of a million squares is off by 4e-4.
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * wanted[0])
