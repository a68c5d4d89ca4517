"""Feeds forecasters that predict in time, at chosen times."""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

import optax_predict

# Optimizer steps before each true gradient.
GAPS = np.array([0, 1, 7, 1, 1, 30, 2, 5, 1, 12])


def series(seed, length=GAPS.size, size=3):
  return np.random.default_rng(seed).normal(size=(length, size))


def motion(steps):
  return optax_predict.Motion(jnp.asarray(steps, jnp.int32))


def histories(forecaster, gradients, gaps=GAPS, dtype=None):
  """The history after each gradient, stacked."""

  def observe(history, observed):
    gradient, gap = observed
    moved = motion(gap)
    forecast = forecaster.predict(history, moved)
    miss = jax.tree.map(jnp.subtract, forecast.gradients, gradient)
    error = optax.tree.norm(miss)
    history = forecaster.observe(gradient, history, moved, error)
    return history, history

  start = forecaster.init(jax.tree.map(lambda g: g[0], gradients), dtype)
  scan = jax.jit(lambda *args: lax.scan(observe, *args)[1])
  return scan(start, (gradients, jnp.asarray(gaps, jnp.int32)))


def last_history(forecaster, gradients, gaps=GAPS, dtype=None):
  return at(histories(forecaster, gradients, gaps, dtype), -1)


def at(stacked, i):
  return jax.tree.map(lambda x: x[i], stacked)


def predict(forecaster, history, steps):
  return forecaster.predict(history, motion(steps)).gradients
