"""Rounds in another way: a plugin for pytest, to find what rounding decides.

ROUNDING=1 python -m pytest -n 0 -p tests.rounding tests/test_faults.py

Parameters after every update, and the inner products that a predictor decides by,
are moved by a unit in the last place or not at all, by a hash of their own bits. A
number from 1 gives one rounding of many; the same number gives the same bits again.
A test that fails with one of them holds for this processor only; but for those of
``test_properties.py`` that ask for the same bits after exact scaling.
"""

import os

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict.core import reductions

SEED = int(os.environ.get("ROUNDING", "0"))


def moved(x):
  if getattr(x, "dtype", None) != jnp.float32:
    return x
  bits = lax.bitcast_convert_type(x, jnp.uint32)
  mixed = bits * jnp.uint32(2654435761) + jnp.uint32(SEED * 0x9E3779B9 % 2**32)
  mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
  mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
  mixed ^= mixed >> 16
  by = mixed % jnp.uint32(3) - jnp.uint32(1)
  new = lax.bitcast_convert_type(bits + by, jnp.float32)
  # What every processor computes exactly stays so: small multiples of 1/64.
  is_rounded = (x != jnp.round(64 * x) / 64) & (jnp.abs(x) > 1e-30)
  return jnp.where(is_rounded & jnp.isfinite(new), new, x)


def pytest_configure(config):
  del config
  if SEED == 0:
    return
  apply_updates, inner_products = optax.apply_updates, reductions.inner_products
  optax.apply_updates = lambda *args: jax.tree.map(moved, apply_updates(*args))
  reductions.inner_products = lambda *args: moved(inner_products(*args))
