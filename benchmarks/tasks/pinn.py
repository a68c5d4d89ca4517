"""Physics-informed networks: losses made of derivatives of the model."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import _base


class _Solution(nn.Module):
  width: int = 24

  @nn.compact
  def __call__(self, x):
    for _ in range(2):
      x = nn.tanh(nn.Dense(self.width)(x))
    return nn.Dense(1)(x)[..., 0]


def _along(function, points, axis: int):
  """The first and second derivative of `function` along one input axis."""
  direction = jnp.zeros_like(points).at[..., axis].set(1.0)

  def first(p):
    return jax.jvp(function, (p,), (direction,))[1]

  return jax.jvp(first, (points,), (direction,))


def _first(function, points, axis: int):
  direction = jnp.zeros_like(points).at[..., axis].set(1.0)
  return jax.jvp(function, (points,), (direction,))


def _square_points(count: int):
  """Interior and edge points of the unit square, scattered once for all."""
  rng = np.random.default_rng(0)
  inside = rng.random((count, 2)).astype(np.float32)
  edge = rng.random((80, 2)).astype(np.float32)
  edge[np.arange(80), np.arange(80) % 2] = (np.arange(80) // 2) % 2
  return inside, edge


@_base.task("tuning", budget=600)
def pinn_poisson():
  """A sine source on the square, zero on its edge."""
  inside, edge = _square_points(150)
  wave = np.sin(np.pi * inside[:, 0]) * np.sin(np.pi * inside[:, 1])
  source = (2 * np.pi**2 * wave).astype(np.float32)
  model = _Solution()

  def loss(params):
    u = model.bind({"params": params})
    _, u_xx = _along(u, inside, 0)
    _, u_yy = _along(u, inside, 1)
    interior = jnp.mean((u_xx + u_yy + source) ** 2)
    return 0.01 * interior + jnp.mean(u(edge) ** 2)

  return _base.network_init(model, inside), loss


def _start_and_walls(profile):
  """Targets at t = 0 and at both walls, as (points, values)."""
  x = np.linspace(-1, 1, 40, dtype=np.float32)
  t = np.linspace(0, 1, 20, dtype=np.float32)
  points = np.concatenate(
    [
      np.stack([x, 0 * x], 1),
      np.stack([0 * t - 1, t], 1),
      np.stack([0 * t + 1, t], 1),
    ]
  )
  values = np.concatenate([profile(x), 0 * t, 0 * t]).astype(np.float32)
  return points, values


def _space_time(count: int):
  points = np.random.default_rng(0).random((count, 2)).astype(np.float32)
  points[:, 0] = 2 * points[:, 0] - 1
  return points


@_base.task("reporting", budget=600)
def pinn_heat():
  """A decaying sine: the loss mixes first and second derivatives."""
  inside = _space_time(150)
  fixed, values = _start_and_walls(lambda x: np.sin(np.pi * x))
  model = _Solution()

  def loss(params):
    u = model.bind({"params": params})
    _, u_xx = _along(u, inside, 0)
    _, u_t = _first(u, inside, 1)
    interior = jnp.mean((u_t - 0.1 * u_xx) ** 2)
    return interior + jnp.mean((u(fixed) - values) ** 2)

  return _base.network_init(model, inside), loss


@_base.task("reporting", budget=600)
def pinn_burgers():
  """A steepening wave: the residual is nonlinear in the network."""
  inside = _space_time(200)
  fixed, values = _start_and_walls(lambda x: -np.sin(np.pi * x))
  model = _Solution()

  def loss(params):
    u = model.bind({"params": params})
    u_x, u_xx = _along(u, inside, 0)
    value, u_t = _first(u, inside, 1)
    interior = jnp.mean((u_t + value * u_x - 0.05 * u_xx) ** 2)
    return interior + jnp.mean((u(fixed) - values) ** 2)

  return _base.network_init(model, inside), loss
