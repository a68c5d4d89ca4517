"""Fits and controls through ordinary differential equations."""

import diffrax
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate

from benchmarks.tasks import _base


def _solve(field, y0, times, args, step: float):
  """A fixed-step solution: adaptive steps would make the loss rough in args."""
  return diffrax.diffeqsolve(
    diffrax.ODETerm(field),
    diffrax.Heun(),
    t0=times[0],
    t1=times[-1],
    dt0=step,
    y0=y0,
    args=args,
    saveat=diffrax.SaveAt(ts=times),
    max_steps=256,
  ).ys


def _observed(field, y0, times) -> np.ndarray:
  """Data from another integrator than the one that fits them."""
  found = integrate.solve_ivp(
    field, (times[0], times[-1]), y0, t_eval=times, rtol=1e-8, atol=1e-8
  )
  return found.y.T.astype(np.float32)


def _lotka_volterra(t, y, rates):
  del t
  prey, predator = y
  a, b, c, d = rates
  return a * prey - b * prey * predator, c * prey * predator - d * predator


@_base.task("tuning", budget=400)
def ode_lotka_volterra():
  """Four rates and the initial state from noisy populations, in logarithms."""
  times = np.linspace(0, 8, 33, dtype=np.float32)
  truth = np.log([1.0, 0.6, 0.5, 1.2, 1.5, 1.0]).astype(np.float32)

  def field(t, y, rates):
    return jnp.stack(_lotka_volterra(t, y, rates))

  def populations(theta):
    rates, y0 = jnp.exp(theta[:4]), jnp.exp(theta[4:])
    return _solve(field, y0, times, rates, 0.1)

  noise = np.random.default_rng(0).standard_normal((33, 2))
  rates, y0 = np.exp(truth[:4]), np.exp(truth[4:])
  data = _observed(lambda t, y: _lotka_volterra(t, y, rates), y0, times)
  data = (data + 0.05 * noise).astype(np.float32)

  def loss(theta):
    return jnp.mean((populations(theta) - data) ** 2)

  return _base.perturbed(truth + 0.25, 0.1), loss


class _Field(nn.Module):
  @nn.compact
  def __call__(self, y):
    return nn.Dense(2)(nn.tanh(nn.Dense(24)(y)))


def _damped_pendulum(t, y):
  del t
  angle, speed = y
  return speed, -2.0 * np.sin(angle) - 0.2 * speed


@_base.task("reporting", budget=400)
def ode_neural():
  """A neural vector field from one swing of a damped pendulum."""
  times = np.linspace(0, 4, 41, dtype=np.float32)
  y0 = np.array([1.5, 0.0], np.float32)
  data = _observed(_damped_pendulum, y0, times)
  field = _Field()

  def learned(t, y, params):
    del t
    return field.apply({"params": params}, y)

  def loss(params):
    path = _solve(learned, y0, times, params, 0.05)
    return jnp.mean((path - data) ** 2) + 1e-6 * _base.squared_norm(params)

  return _base.network_init(field, y0), loss


@_base.task("reporting", budget=400)
def pendulum_swing_up():
  """Open-loop torques over 60 steps: shooting, so early steps weigh most."""

  def loss(torques):
    def step(state, torque):
      angle, speed = state
      speed = speed + 0.05 * (9.81 * jnp.sin(angle) + torque)
      angle = angle + 0.05 * speed
      return (angle, speed), None

    (angle, speed), _ = jax.lax.scan(
      step, (jnp.float32(np.pi), jnp.float32(0)), torques
    )
    goal = 1 - jnp.cos(angle) + 0.1 * speed**2
    return 10 * goal + 0.005 * jnp.mean(torques**2)

  return _base.perturbed(0.5 * np.sin(np.arange(60) / 6), 0.1), loss
