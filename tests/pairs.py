"""Feeds vectors, two at a time, to what keeps them as sums of a few."""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict.core import reductions


@functools.partial(jax.jit, static_argnums=0)
def step(way, basis, known, rows, i, say, pair):
  """The i-th pair; ``rows`` are the coordinates of all.

  ``way`` is one of the modules ``rotation`` and ``selection``. Returns the next
  basis, its inner products and the next rows, then the addition and the reduction.
  """
  inside = jnp.stack(
    [reductions.inner_products([(x, v) for x in basis]) for v in pair]
  )
  first, second = pair
  products = reductions.inner_products(
    [(first, first), (first, second), (second, second)]
  )
  yes = jnp.ones([], bool)
  added = way.add(basis, known, pair, inside, products, yes)
  rows = jnp.pad(rows, ((0, 0), (0, 2)))
  rows = lax.dynamic_update_slice(rows, added.coordinates, (2 * i, 0))
  by = way.reduce(say[:, None] * rows, added)
  basis = way.reduced(basis, added, by, yes)
  return basis, by.products, rows @ by.matrix, added, by
