"""Coefficients and initial conditions of partial differential equations."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import _base


def _march(step, state, count: int):
  """The states after each of `count` steps, in one compiled loop."""

  def body(state, _):
    state = step(state)
    return state, state

  return jax.lax.scan(body, state, None, length=count)[1]


@_base.task("tuning", budget=400)
def heat_initial():
  """The initial temperature from the final one: severely ill-conditioned."""
  n = 64
  laplacian = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
  implicit = np.linalg.inv(np.eye(n) + 0.3 * laplacian).astype(np.float32)
  t = np.linspace(0, 1, n)
  truth = (np.sin(3 * np.pi * t) + (abs(t - 0.6) < 0.1)).astype(np.float32)

  def final(u0):
    return _march(lambda u: implicit @ u, u0, 30)[-1]

  noise = np.random.default_rng(0).standard_normal(n)
  data = np.asarray(final(truth) + 1e-3 * noise, np.float32)

  def loss(u0):
    return jnp.mean((final(u0) - data) ** 2) + 1e-5 * jnp.mean(u0**2)

  return _base.perturbed(np.zeros(n), 0.2), loss


@_base.task("reporting", budget=400)
def heat_conductivity():
  """Conductivities of 40 cells from three probes over time, implicit Euler."""
  n = 40
  t = np.linspace(0, 1, n + 1)
  truth = (0.5 * np.sin(2 * np.pi * t)).astype(np.float32)
  difference = np.diff(np.eye(n + 2, dtype=np.float32), axis=0)[:, 1:-1]
  source = np.exp(-(((np.arange(n) - 10) / 4.0) ** 2)).astype(np.float32)

  def probes(log_k):
    stiffness = difference.T @ (jnp.exp(log_k)[:, None] * difference)
    implicit = jnp.linalg.inv(jnp.eye(n) + 2.0 * stiffness)
    path = _march(lambda u: implicit @ (u + source), jnp.zeros(n), 30)
    return path[:, (5, 20, 34)]

  data = np.asarray(probes(truth))

  def loss(log_k):
    rough = jnp.mean(jnp.diff(log_k) ** 2)
    return jnp.mean((probes(log_k) - data) ** 2) + 1e-3 * rough

  return _base.perturbed(np.zeros(n + 1), 0.1), loss


@_base.task("reporting", budget=300)
def wave_speed():
  """Seismic inversion in one dimension: reflections recorded at one end."""
  n, steps = 80, 160
  depth = np.linspace(0, 1, n)
  truth = (0.15 * np.tanh(20 * (depth - 0.5))).astype(np.float32)
  pulse = np.arange(steps) - 15.0
  pulse = ((1 - pulse**2 / 18) * np.exp(-(pulse**2) / 36)).astype(np.float32)

  def record(log_speed):
    courant = 0.25 * jnp.exp(2 * log_speed)

    def step(state, push):
      before, now = state
      bent = jnp.pad(now[2:] - 2 * now[1:-1] + now[:-2], 1)
      after = (2 * now - before + courant * bent).at[2].add(push)
      return (now, after), after[4]

    return jax.lax.scan(step, (jnp.zeros(n), jnp.zeros(n)), pulse)[1]

  data = np.asarray(record(truth))

  def loss(log_speed):
    rough = jnp.mean(jnp.diff(log_speed) ** 2)
    return jnp.mean((record(log_speed) - data) ** 2) + 1e-2 * rough

  return _base.perturbed(np.zeros(n), 0.01), loss


@_base.task("reporting", budget=300)
def advection_velocity():
  """A velocity field from the shape of a tracer it has carried (upwind)."""
  n = 64
  t = np.arange(n) / n
  truth = (0.5 + 0.3 * np.sin(2 * np.pi * t)).astype(np.float32)
  centres = np.array([[0.2], [0.5], [0.8]])
  tracers = np.exp(-(((t - centres) / 0.06) ** 2)).astype(np.float32)

  def carried(velocity):
    def step(u):
      flux = velocity * u
      return (
        u
        - 0.5 * (flux - jnp.roll(flux, 1, axis=-1))
        + 0.1 * (jnp.roll(u, 1, axis=-1) - 2 * u + jnp.roll(u, -1, axis=-1))
      )

    return _march(step, jnp.asarray(tracers), 60)[19::20]

  data = np.asarray(carried(truth))

  def loss(velocity):
    rough = jnp.mean(jnp.diff(velocity) ** 2)
    return jnp.mean((carried(velocity) - data) ** 2) + 1e-3 * rough

  return _base.perturbed(np.full(n, 0.5), 0.02), loss


@_base.task("reporting", budget=300)
def darcy_permeability():
  """Darcy flow: 144 log-permeabilities from 36 pressures."""
  n = 12
  nodes = np.arange(n * n).reshape(n, n)
  pairs = np.concatenate(
    [
      np.stack([nodes[:, :-1].ravel(), nodes[:, 1:].ravel()], 1),
      np.stack([nodes[:-1].ravel(), nodes[1:].ravel()], 1),
    ]
  )
  edges = np.zeros((len(pairs), n * n), np.float32)
  edges[np.arange(len(pairs)), pairs[:, 0]] = 1
  edges[np.arange(len(pairs)), pairs[:, 1]] = -1
  rim = np.zeros(n * n, np.float32)
  rim[np.r_[nodes[0], nodes[-1]]] = 1.0
  x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n))
  truth = (np.sin(4 * x) * np.cos(5 * y)).ravel().astype(np.float32)
  seen = nodes[1::2, 1::2].ravel()

  def pressures(log_k):
    harmonic = 0.5 * (log_k[pairs[:, 0]] + log_k[pairs[:, 1]])
    matrix = edges.T @ (jnp.exp(harmonic)[:, None] * edges) + jnp.diag(rim)
    return jnp.linalg.solve(matrix, jnp.full(n * n, 0.1))[seen]

  data = np.asarray(pressures(truth))

  def loss(log_k):
    rough = jnp.mean((edges @ log_k) ** 2)
    return jnp.mean((pressures(log_k) - data) ** 2) + 1e-3 * rough

  return _base.perturbed(np.zeros(n * n), 0.1), loss
