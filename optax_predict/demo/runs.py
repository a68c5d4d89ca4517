"""Runs of any optimizer, and the tuning that makes them fair."""

from collections.abc import Callable
import math
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_predict.demo.tasks import Task
from optax_predict.forms.predictor_states import get_stats
from optax_predict.forms.predictor_states import has_predictor

# Four learning rates per decade.
_RATIO = 10**0.25


class Run(NamedTuple):
  """One training run.

  Attributes:
    rate: learning rate.
    losses: ``[steps]``, the loss at every true gradient.
    predicted_steps: predicted steps taken.
    final_loss: over all data, after the run.
    seconds: wall time, without compilation.
  """

  rate: float
  losses: np.ndarray
  predicted_steps: int
  final_loss: float
  seconds: float


def compile_run(
  task: Task, optimizer: Callable[[Any], Any]
) -> Callable[[float, int], Run]:
  """One run as a compiled function of learning rate and seed.

  There is one loss and gradient per step of the scan, whatever the optimizer.
  """

  def train(rate, params, batches):
    tx = optimizer(rate)

    def step(carry, batch):
      params, opt_state = carry
      loss, grads = jax.value_and_grad(task.loss)(params, batch)
      updates, opt_state = tx.update(grads, opt_state, params)
      return (optax.apply_updates(params, updates), opt_state), loss

    carry = params, tx.init(params)
    (params, opt_state), losses = jax.lax.scan(step, carry, batches)
    predicted = jnp.int32(0)
    if has_predictor(opt_state):
      predicted = get_stats(opt_state).predicted_steps
    return losses, predicted, task.evaluate(params)

  def arguments(rate, seed):
    return jnp.float32(rate), task.init(seed), task.batches(seed, task.steps)

  compiled = jax.jit(train).lower(*arguments(1.0, 0)).compile()

  def run(rate, seed):
    inputs = jax.block_until_ready(arguments(rate, seed))
    started = time.perf_counter()
    losses, predicted, final = jax.block_until_ready(compiled(*inputs))
    seconds = time.perf_counter() - started
    return Run(rate, np.asarray(losses), int(predicted), float(final), seconds)

  return run


def best_so_far(losses: np.ndarray) -> np.ndarray:
  """The lowest loss up to each true gradient; a diverged run is infinite."""
  finite = np.where(np.isfinite(losses), losses, np.inf)
  return np.minimum.accumulate(finite)


def gradients_to(losses: np.ndarray, target: float) -> float:
  """True gradients until the loss is at the target, infinity if it never is."""
  hits = np.flatnonzero(best_so_far(losses) <= target)
  return float(hits[0] + 1) if hits.size else math.inf


def quality(task: Task, result: Run) -> float:
  """What the tuning minimises: the loss where the run ended."""
  if task.is_noisy:
    return result.final_loss if np.isfinite(result.final_loss) else np.inf
  return float(best_so_far(result.losses)[-1])


def tune(
  run: Callable[[float, int], Run],
  task: Task,
  seed: int,
  guess: float,
  tick: Callable[[], None],
) -> list[Run]:
  """Runs on a grid of rates that grows until its best is not at an end."""
  runs = {}

  def score(i):
    if i not in runs:
      runs[i] = run(guess * _RATIO**i, seed)
      tick()
    return quality(task, runs[i])

  for i in range(-4, 5, 2):
    score(i)
  while True:
    best = min(runs, key=score)
    missing = [i for i in (best - 1, best + 1) if i not in runs]
    if not missing or len(runs) > 40:
      return [runs[i] for i in sorted(runs)]
    for i in missing:
      score(i)
