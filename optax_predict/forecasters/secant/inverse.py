"""The inverse of a small matrix."""

import jax
from jax import lax
import jax.numpy as jnp


def invert(matrix: jax.Array, least: jax.Array | float) -> jax.Array:
  """Inverse of a small positive definite matrix, by sweeping its pivots.

  The eigenvalues are ``least`` or more, and so are the pivots but for rounding, which
  is cut off: unlike a Cholesky decomposition, this never ends in NaN. A plain loop
  compiles faster than a library's routine. Under ``vmap`` it takes all matrices in one
  pass.

  Args:
    matrix: symmetric, ``[m, m]``.
    least: a lower bound of its eigenvalues, above 0.
  """
  size = matrix.shape[-1]
  index = jnp.arange(size)[None]

  # Choices, not scatters: a step is then a single loop over the numbers.
  def sweep(k, a):
    row = lax.dynamic_index_in_dim(a, k)
    pivot = jnp.maximum(lax.dynamic_index_in_dim(row, k, 1), least)
    scaled = row / pivot
    is_column = index == k
    a = a - row.T * scaled
    a = jnp.where(is_column.T, scaled, a)
    a = jnp.where(is_column, scaled.T, a)
    return jnp.where(is_column.T & is_column, -1 / pivot, a)

  return -lax.fori_loop(0, size, sweep, matrix)
