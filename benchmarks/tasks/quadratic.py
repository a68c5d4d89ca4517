"""Quadratics: the one case where theory says what every method does."""

import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import _base


def _rotated(n: int, condition: float):
  """0.5 x^T A x with log-uniform spectrum in a random orthogonal basis.

  The rotation matters: a diagonal A would hand Adam its preconditioner.
  """
  rng = np.random.default_rng(0)
  basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
  eigenvalues = np.logspace(-np.log10(condition), 0, n)
  root = (np.sqrt(eigenvalues)[:, None] * basis.T).astype(np.float32)

  def loss(x):
    return 0.5 * jnp.sum((root @ x) ** 2)

  return _base.perturbed(np.zeros(n), 1.0), loss


@_base.task("tuning", budget=400)
def quadratic_1e2():
  """Condition 100: the budget reaches every target."""
  return _rotated(100, 1e2)


@_base.task("reporting", budget=600)
def quadratic_1e4():
  """Condition 10,000: plain gradient descent runs out of budget."""
  return _rotated(200, 1e4)
