"""Implicit neural representations: a network that is one image."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets

from benchmarks.tasks import _base


def _picture(name: str, size: int):
  """A grey thumbnail by block averages, with its coordinates in [-1, 1]."""
  colour = datasets.load_sample_image(name).astype(np.float64) / 255
  grey = colour.mean(-1)[:416, :416]
  block = 416 // size
  grey = grey[: block * size, : block * size]
  grey = grey.reshape(size, block, size, block).mean((1, 3))
  axis = np.linspace(-1, 1, size)
  grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
  return grid.astype(np.float32), (2 * grey.ravel() - 1).astype(np.float32)


def _uniform(bound: float):
  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


class _Siren(nn.Module):
  """Sitzmann et al. 2020, with their initialisation."""

  width: int = 40
  frequency: float = 12.0

  @nn.compact
  def __call__(self, x):
    first = _uniform(0.5)
    x = jnp.sin(self.frequency * nn.Dense(self.width, kernel_init=first)(x))
    inner = _uniform(float(np.sqrt(6 / self.width)))
    x = jnp.sin(nn.Dense(self.width, kernel_init=inner)(x))
    return nn.Dense(1, kernel_init=inner)(x)[..., 0]


class _Fourier(nn.Module):
  """Random Fourier features and a small perceptron (Tancik et al. 2020)."""

  @nn.compact
  def __call__(self, x):
    rng = np.random.default_rng(0)
    angles = x @ (4.0 * rng.standard_normal((2, 12))).astype(np.float32)
    x = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
    return nn.Dense(1)(nn.gelu(nn.Dense(16)(x)))[..., 0]


def _fit(module, name: str):
  grid, values = _picture(name, 26)

  def loss(params):
    return jnp.mean((module.apply({"params": params}, grid) - values) ** 2)

  return _base.network_init(module, grid), loss


@_base.task("tuning", budget=400)
def siren_image():
  """Sine layers: a photograph, and steep curvature in the first layer."""
  return _fit(_Siren(), "china.jpg")


@_base.task("reporting", budget=400)
def fourier_image():
  """Fixed frequencies first, so the trained part is gently conditioned."""
  return _fit(_Fourier(), "flower.jpg")
