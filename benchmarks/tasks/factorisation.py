"""Low-rank models and quadratic measurements: saddles and flat directions."""

import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import _base


def _low_rank(rows: int, columns: int, rank: int, decay: float):
  rng = np.random.default_rng(0)
  left = rng.standard_normal((rows, rank)) * decay ** np.arange(rank)
  right = rng.standard_normal((columns, rank))
  matrix = left @ right.T / np.sqrt(rank)
  return matrix.astype(np.float32), rng


def _factors(rows: int, columns: int, rank: int, scale: float):
  def init(seed):
    left = _base.perturbed(np.zeros((rows, rank)), scale)
    right = _base.perturbed(np.zeros((columns, rank)), scale)
    return {"left": left(seed), "right": right(100 + seed)}

  return init


@_base.task("tuning", budget=400)
def matrix_factorisation():
  """Plain least squares; a rotation of the factors changes nothing."""
  matrix, rng = _low_rank(60, 40, 5, 0.7)
  matrix = matrix + 0.01 * rng.standard_normal(matrix.shape).astype(np.float32)

  def loss(params):
    return jnp.mean((params["left"] @ params["right"].T - matrix) ** 2)

  return _factors(60, 40, 5, 0.3), loss


@_base.task("reporting", budget=400)
def matrix_completion():
  """A quarter of the entries, one rank too many, as a recommender has it."""
  matrix, rng = _low_rank(100, 80, 4, 0.8)
  seen = (rng.random(matrix.shape) < 0.25).astype(np.float32)

  def loss(params):
    error = seen * (params["left"] @ params["right"].T - matrix)
    return jnp.sum(error**2) / seen.sum() + 1e-4 * _base.squared_norm(params)

  return _factors(100, 80, 5, 0.3), loss


@_base.task("reporting", budget=400)
def phase_retrieval():
  """Signs from intensities, started where spectral initialisation puts it."""
  n, count = 64, 400
  rng = np.random.default_rng(0)
  truth = rng.standard_normal(n)
  rays = rng.standard_normal((count, n))
  intensity = (rays @ truth) ** 2
  _, vectors = np.linalg.eigh(rays.T @ (intensity[:, None] * rays))
  start = vectors[:, -1] * np.sqrt(intensity.mean())
  rays, intensity = rays.astype(np.float32), intensity.astype(np.float32)

  def loss(x):
    return jnp.mean(((rays @ x) ** 2 - intensity) ** 2) / n

  return _base.perturbed(start, 0.1), loss


@_base.task("reporting", budget=400)
def tensor_factorisation():
  """CP factors with collinear columns: the swamps of alternating methods."""
  rng = np.random.default_rng(0)
  sides = [rng.standard_normal((size, 4)) for size in (20, 18, 16)]
  sides = [side + 2 * side[:, :1] for side in sides]
  tensor = np.einsum("ir,jr,kr->ijk", *sides)
  tensor = (tensor / tensor.std()).astype(np.float32)

  def loss(params):
    guess = jnp.einsum("ir,jr,kr->ijk", params["a"], params["b"], params["c"])
    return jnp.mean((guess - tensor) ** 2)

  def init(seed):
    names, sizes = "abc", (20, 18, 16)
    return {
      name: _base.perturbed(np.zeros((size, 4)), 0.5)(10 * seed + i)
      for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    }

  return init, loss
