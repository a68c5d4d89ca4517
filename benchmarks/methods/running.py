"""One run of one method on one task, and its ledger."""

import functools
import math
from typing import Any
from typing import NamedTuple

import jax
from jax import flatten_util
import jax.numpy as jnp
import numpy as np

from benchmarks import tasks
from benchmarks.methods import opponents
import optax_predict

_PREDICTORS = ("+predict", "+original", "+accelerate")


class Run(NamedTuple):
  """The ledger of one run.

  Attributes:
    rate: learning rate, or None for methods that search along a line.
    seed: which start.
    losses: the loss at every true gradient, in order; its length is the
      number of them that were evaluated.
    forward_only: evaluations of the loss alone, without a gradient.
    predicted: optimizer steps that evaluated nothing.
  """

  rate: float | None
  seed: int
  losses: list[float]
  forward_only: int = 0
  predicted: int = 0


class Problem:
  """A task with flat parameters and its loss compiled once.

  The flat vector is padded with zeros to a power of two. Their gradient is
  zero, every method leaves them at zero and no sum changes, but the methods'
  steps are compiled for a dozen sizes and not for every task anew.
  """

  def __init__(self, task: tasks.Task):
    self.task = task
    flat, self._unravel = flatten_util.ravel_pytree(task.init(0))
    self.size = flat.size
    self.value_and_grad = jax.jit(jax.value_and_grad(self.loss))

  def loss(self, x: jax.Array) -> jax.Array:
    """The task's loss of flat parameters."""
    return self.task.loss(self._unravel(x[: self.size]))

  def start(self, seed: int) -> jax.Array:
    """The flat start of a seed."""
    flat, _ = flatten_util.ravel_pytree(self.task.init(seed))
    padded = max(8, 1 << (self.size - 1).bit_length())
    return jnp.pad(flat, (0, padded - self.size))


@functools.lru_cache(maxsize=4)
def problem(name: str) -> Problem:
  """The problem of a task, kept while the task is being worked on."""
  return Problem(tasks.get(name))


def run(
  problem: Problem,
  method: str,
  rate: float,
  seed: int,
  stop_at: float = -math.inf,
) -> Run:
  """Runs until the budget is spent or the loss is no longer finite.

  A diverged run keeps what it reached before: it misses its later targets and
  is otherwise like any other.

  Args:
    problem: the task.
    method: name of a method without a line search.
    rate: learning rate.
    seed: which start.
    stop_at: a loss so far below every target that going on tells nothing.

  Raises:
    RuntimeError: if the predictor's own count of true gradients is not the
      loop's.
  """
  step, x = opponents.step(method), problem.start(seed)
  state = opponents.init(method)(x)
  rate32 = np.float32(rate)
  losses = []
  for _ in range(problem.task.budget):
    loss, gradient = problem.value_and_grad(x)
    x, state = step(rate32, x, state, gradient)
    losses.append(float(loss))
    if not math.isfinite(losses[-1]) or losses[-1] <= stop_at:
      break
  predicted = _predicted_steps(method, state, len(losses))
  return Run(rate, seed, losses, 0, predicted)


def _predicted_steps(method: str, state: Any, evaluated: int) -> int:
  """Steps without a gradient, after the two counters have been compared."""
  if method.endswith("+stale"):
    return opponents.REPEATS * evaluated
  if not method.endswith(_PREDICTORS):
    return 0
  stats = optax_predict.get_stats(state)
  if int(stats.computed_steps) != evaluated:
    raise RuntimeError(
      f"{method} counts {int(stats.computed_steps)} true gradients, the loop"
      f" {evaluated}."
    )
  return int(stats.predicted_steps)
