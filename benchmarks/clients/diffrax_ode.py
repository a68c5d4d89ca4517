"""diffrax: the loop of its neural ODE with equinox, in full batches."""

import diffrax
import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.clients import _base

# One batch of the example's, always the same.
_SERIES, _SMALL_SERIES = 32, 8
_WIDTH, _SMALL_WIDTH = 64, 16
_TIMES, _SMALL_TIMES = 100, 10
# The example trains on the first tenth, then on all of every series.
_STRATEGY = ((500, 0.1), (500, 1.0))
_SMALL_STRATEGY = ((60, 1.0),)
_END, _SMALL_END = 10.0, 2.0


class _NeuralODE(equinox.Module):
  network: equinox.nn.MLP

  def __call__(self, times, start):
    solution = diffrax.diffeqsolve(
      diffrax.ODETerm(lambda t, y, args: self.network(y)),
      diffrax.Tsit5(),
      t0=times[0],
      t1=times[-1],
      dt0=times[1] - times[0],
      y0=start,
      stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
      saveat=diffrax.SaveAt(ts=times),
    )
    return solution.ys


def _series(times, count, key):
  """Nonlinear oscillators from random starts."""

  def rule(t, y, args):
    x = y / (1 + y)
    return jnp.stack([x[1], -x[0]])

  def one(start):
    return diffrax.diffeqsolve(
      diffrax.ODETerm(rule),
      diffrax.Tsit5(),
      times[0],
      times[-1],
      0.1,
      start,
      saveat=diffrax.SaveAt(ts=times),
    ).ys

  starts = jax.random.uniform(key, (count, 2), minval=-0.6, maxval=1.0)
  return jax.jit(jax.vmap(one))(starts)


def run(
  optimizer, is_small: bool = False, steps: int | None = None
) -> _base.Run:
  """The losses are those of the last part; `update` sees no parameters."""
  data_key, model_key = jax.random.split(jax.random.key(5678))
  count, length, width, end, strategy = (
    (_SMALL_SERIES, _SMALL_TIMES, _SMALL_WIDTH, _SMALL_END, _SMALL_STRATEGY)
    if is_small
    else (_SERIES, _TIMES, _WIDTH, _END, _STRATEGY)
  )
  times = jnp.linspace(0.0, end, length)
  series = _series(times, count, data_key)
  network = equinox.nn.MLP(
    2, 2, width, 2, activation=jax.nn.softplus, key=model_key
  )
  model = _NeuralODE(network)

  @equinox.filter_value_and_grad
  def grad_loss(model, times, series):
    predicted = jax.vmap(model, in_axes=(None, 0))(times, series[:, 0])
    return jnp.mean((series - predicted) ** 2)

  @equinox.filter_jit
  def make_step(times, series, model, opt_state):
    loss, grads = grad_loss(model, times, series)
    updates, opt_state = optimizer.update(grads, opt_state)
    model = equinox.apply_updates(model, updates)
    return loss, model, opt_state

  for part_steps, share in strategy:
    opt_state = optimizer.init(equinox.filter(model, equinox.is_inexact_array))
    part, losses = int(share * length), []
    if share == 1.0:
      part_steps = steps or part_steps
    for _ in range(part_steps):
      loss, model, opt_state = make_step(
        times[:part], series[:, :part], model, opt_state
      )
      losses.append(loss)
  return _base.Run(np.asarray(losses), opt_state)


CLIENT = _base.Client(
  library="diffrax",
  loop="neural ODE, full batch",
  rule="AdaBelief 3e-3",
  optimizer=lambda: optax.adabelief(3e-3),
  run=run,
  passes_params=False,
)
