"""optimistix: ``OptaxMinimiser`` on the Rosenbrock function."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix

from benchmarks.clients import _base

_STEPS, _SMALL_STEPS = 1500, 400


def _rosenbrock(y, args):
  del args
  return jnp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)


def run(
  optimizer, is_small: bool = False, steps: int | None = None
) -> _base.Run:
  """Minimises for a fixed number of steps; the solver reports every loss."""
  losses = []

  def verbose(loss_this_step, **rest):
    del rest
    jax.debug.callback(losses.append, loss_this_step[1], ordered=True)

  solver = optimistix.OptaxMinimiser(optimizer, 0.0, 0.0, verbose=verbose)
  solution = optimistix.minimise(
    _rosenbrock,
    solver,
    jnp.array([-1.2, 1.0]),
    max_steps=steps or (_SMALL_STEPS if is_small else _STEPS),
    throw=False,
  )
  jax.effects_barrier()
  return _base.Run(np.asarray(losses), solution.state.opt_state)


CLIENT = _base.Client(
  library="optimistix",
  loop="`OptaxMinimiser`, Rosenbrock",
  rule="Adam 2e-2",
  optimizer=lambda: optax.adam(2e-2),
  run=run,
)
