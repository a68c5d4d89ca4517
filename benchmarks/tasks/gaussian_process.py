"""Hyperparameters by evidence: few variables, one Cholesky per evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets

from benchmarks.tasks import _base

_HALF_LOG_2PI = np.float32(0.5 * np.log(2 * np.pi))


def _diabetes(count: int):
  x, y = datasets.load_diabetes(return_X_y=True)
  x = (x - x.mean(0)) / x.std(0)
  y = (y - y.mean()) / y.std()
  return x[:count].astype(np.float32), y[:count].astype(np.float32)


def _kernel(a, b, log_scales, log_amplitude):
  a, b = a * jnp.exp(-log_scales), b * jnp.exp(-log_scales)
  square = jnp.sum((a[:, None] - b[None]) ** 2, -1)
  return jnp.exp(2 * log_amplitude - 0.5 * square)


@_base.task("tuning", budget=300)
def gp_evidence():
  """One length scale per feature, an amplitude and a noise level."""
  x, y = _diabetes(100)
  eye = np.eye(len(y), dtype=np.float32)

  def loss(theta):
    gram = _kernel(x, x, theta[:10], theta[10])
    gram = gram + (jnp.exp(2 * theta[11]) + 1e-4) * eye
    factor = jnp.linalg.cholesky(gram)
    alpha = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
    log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
    return (0.5 * alpha @ alpha + log_det) / len(y) + _HALF_LOG_2PI

  return _base.perturbed(np.zeros(12), 0.2), loss


@_base.task("reporting", budget=300)
def gp_inducing():
  """Titsias' bound with 12 inducing points that move with the rest."""
  x, y = _diabetes(200)
  eye = np.eye(12, dtype=np.float32)

  def loss(params):
    z, scales, amplitude, log_noise = (
      params["z"],
      params["scales"],
      params["amplitude"],
      params["noise"],
    )
    noise = jnp.exp(2 * log_noise) + 1e-3
    gram = _kernel(z, z, scales, amplitude) + 1e-3 * eye
    factor = jnp.linalg.cholesky(gram)
    cross = _kernel(z, x, scales, amplitude)
    a = jax.scipy.linalg.solve_triangular(factor, cross, lower=True)
    inner = jnp.linalg.cholesky(eye + a @ a.T / noise)
    c = jax.scipy.linalg.solve_triangular(inner, a @ y / noise, lower=True)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(inner)))
    trace = (len(y) * jnp.exp(2 * amplitude) - jnp.sum(a**2)) / noise
    fit = y @ y / noise - c @ c
    total = len(y) * jnp.log(noise) + log_det + fit + trace
    return 0.5 * total / len(y) + _HALF_LOG_2PI

  def init(seed):
    return {
      "z": _base.perturbed(x[:12], 0.1)(seed),
      "scales": jnp.full(10, 1.0),
      "amplitude": jnp.zeros(()),
      "noise": jnp.full((), -0.5),
    }

  return init, loss
