"""Inverses of small matrices, many at once."""

import jax
from jax import lax
import jax.numpy as jnp


def invert(matrices: jax.Array, least: jax.Array | float) -> jax.Array:
  """Inverses of small positive definite matrices, by sweeping their pivots.

  The eigenvalues are ``least`` or more, and so are the pivots but for rounding, which
  is cut off: unlike a Cholesky decomposition, this never ends in NaN. A plain loop
  compiles faster than a library's routine, and takes all matrices in one pass.

  Args:
    matrices: symmetric, ``[..., m, m]``.
    least: a lower bound of their eigenvalues, above 0.
  """
  size = matrices.shape[-1]
  index = jnp.arange(size)

  # Choices, not scatters: a step is then a single loop over the numbers.
  def sweep(k, a):
    row = lax.dynamic_index_in_dim(a, k, -2)
    pivot = jnp.maximum(lax.dynamic_index_in_dim(row, k, -1), least)
    scaled = row / pivot
    is_pivot = index == k
    a = a - row.mT * scaled
    a = jnp.where(is_pivot[:, None], scaled, a)
    a = jnp.where(is_pivot, scaled.mT, a)
    return jnp.where(is_pivot[:, None] & is_pivot, -1 / pivot, a)

  return -lax.fori_loop(0, size, sweep, matrices)
