"""Inverses by sweeping, against NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_predict.forecasters.secant.inverse import invert
from tests import helpers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 4, 12])
def test_is_the_inverse(size, dtype):
  with helpers.x64(dtype == "float64"):
    factors = np.random.default_rng(size).normal(size=(5, size, size))
    matrices = factors @ factors.mT + 0.1 * np.eye(size)
    found = jax.vmap(lambda x: invert(x, 0.1))(jnp.asarray(matrices, dtype))
    assert found.dtype == dtype
    helpers.assert_close(
      found @ matrices, np.eye(size)[None] + 0 * found, dtype, 300
    )


def test_a_singular_matrix_has_a_finite_one():
  row = np.array([1.0, -2.0, 0.5])
  matrix = jnp.asarray(np.outer(row, row), jnp.float32)
  inverse = np.asarray(invert(matrix, 1e-3))
  assert np.all(np.isfinite(inverse))
  # Along the only direction there is, it is an inverse.
  np.testing.assert_allclose(matrix @ inverse @ matrix, matrix, rtol=1e-2)
