"""Energies and designs from physics."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import _base


def _icosahedron():
  golden = (1 + 5**0.5) / 2
  corners = [
    np.roll([0, a, b], k)
    for k in range(3)
    for a in (-1, 1)
    for b in (-golden, golden)
  ]
  return np.concatenate([np.zeros((1, 3)), np.array(corners)]) * 0.57


@_base.task("reporting", budget=400)
def lennard_jones_13():
  """Thirteen atoms relaxed from a shaken icosahedron (its global minimum)."""
  first, second = np.triu_indices(13, 1)

  def loss(x):
    square = jnp.sum((x[first] - x[second]) ** 2, -1)
    inverse = 1 / square**3
    return 4 * jnp.sum(inverse**2 - inverse) / 13

  return _base.perturbed(_icosahedron(), 0.04), loss


@_base.task("reporting", budget=400)
def multilayer_mirror():
  """Thicknesses of ten layers for a mirror, from a detuned quarter-wave stack.

  Lossless layers keep the transfer matrix real on its diagonal and imaginary
  off it, so four real numbers per wavelength carry it.
  """
  waves = np.linspace(0.5, 0.7, 50, dtype=np.float32)
  index = np.where(np.arange(10) % 2, 1.46, 2.1).astype(np.float32)
  glass = 1.52

  def layer(matrix, inputs):
    thickness, n = inputs
    a, b, c, d = matrix
    phase = 2 * np.pi * n * thickness / waves
    cos, sin = jnp.cos(phase), jnp.sin(phase)
    matrix = (
      a * cos - b * sin * n,
      a * sin / n + b * cos,
      c * cos + d * sin * n,
      d * cos - c * sin / n,
    )
    return matrix, None

  def loss(thickness):
    one, zero = jnp.ones_like(waves), jnp.zeros_like(waves)
    start = (one, zero, zero, one)
    (a, b, c, d), _ = jax.lax.scan(layer, start, (thickness, index))
    transmitted = 4 * glass / ((a + glass * d) ** 2 + (b * glass + c) ** 2)
    return jnp.mean(transmitted)

  return _base.perturbed(0.2 * 0.6 / index, 0.005), loss


@_base.task("reporting", budget=400)
def thomson_20():
  """Charges on a sphere, parametrised so that no constraint is needed."""
  first, second = np.triu_indices(20, 1)

  def loss(x):
    x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    square = jnp.sum((x[first] - x[second]) ** 2, -1)
    return jnp.mean(1 / jnp.sqrt(square + 1e-6))

  start = np.random.default_rng(0).standard_normal((20, 3))
  start /= np.linalg.norm(start, axis=1, keepdims=True)
  return _base.perturbed(start, 0.05), loss


@_base.task("reporting", budget=400)
def image_deblurring():
  """Smoothed total variation on a 20 x 20 image blurred by a known kernel."""
  n = 20
  rng = np.random.default_rng(0)
  x, y = np.meshgrid(np.arange(n), np.arange(n))
  truth = ((x - 9) ** 2 + (y - 8) ** 2 < 30) + 0.5 * (x > 13)
  blur = np.exp(-0.5 * ((x - y) / 1.5) ** 2)
  blur = (blur / blur.sum(1, keepdims=True)).astype(np.float32)
  noise = 0.02 * rng.standard_normal((n, n))
  data = (blur @ truth @ blur.T + noise).astype(np.float32)

  def loss(image):
    dx, dy = jnp.diff(image, axis=0)[:, :-1], jnp.diff(image, axis=1)[:-1]
    variation = jnp.mean(jnp.sqrt(dx**2 + dy**2 + 1e-3))
    return jnp.mean((blur @ image @ blur.T - data) ** 2) + 3e-3 * variation

  return _base.perturbed(data, 0.1), loss
