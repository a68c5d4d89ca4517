"""Curved valleys and singular minima, the classic trials of a step rule."""

import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import _base


@_base.task("tuning", budget=600)
def rosenbrock_50():
  """A curved valley through 50 dimensions, from the usual start."""

  def loss(x):
    valley = x[1:] - x[:-1] ** 2
    return jnp.mean(100 * valley**2 + (1 - x[:-1]) ** 2)

  start = np.where(np.arange(50) % 2, 1.0, -1.2)
  return _base.perturbed(start, 0.05), loss


@_base.task("reporting", budget=600)
def powell_singular_40():
  """The Hessian at the minimum has half its rank: slow for every method."""

  def loss(x):
    a, b, c, d = x.reshape(-1, 4).T
    terms = (
      (a + 10 * b) ** 2
      + 5 * (c - d) ** 2
      + (b - 2 * c) ** 4
      + 10 * (a - d) ** 4
    )
    return jnp.mean(terms)

  start = np.tile([3.0, -1.0, 0.0, 1.0], 10)
  return _base.perturbed(start, 0.05), loss


@_base.task("reporting", budget=400)
def minimal_surface():
  """Area of a graph on a 16 x 16 grid between fixed edges: nonlinear PDE."""
  n = 16
  t = np.linspace(0, 1, n + 2)
  edge = np.sin(2 * np.pi * t)
  frame = np.zeros((n + 2, n + 2), np.float32)
  frame[0], frame[-1] = edge, -edge
  frame[:, 0], frame[:, -1] = t * (1 - t), -t * (1 - t)

  def loss(x):
    z = jnp.asarray(frame).at[1:-1, 1:-1].set(x)
    dx = (z[1:, :-1] - z[:-1, :-1]) * (n + 1)
    dy = (z[:-1, 1:] - z[:-1, :-1]) * (n + 1)
    return jnp.mean(jnp.sqrt(1 + dx**2 + dy**2))

  return _base.perturbed(np.zeros((n, n)), 0.1), loss
