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
    seed: of the start and the batches.
    losses: ``[steps]``, the loss at every true gradient.
    predicted_steps: predicted steps taken.
    final_loss: over all data, after the run.
    seconds: wall time, without compilation.
  """

  rate: float
  seed: int
  losses: np.ndarray
  predicted_steps: int
  final_loss: float
  seconds: float


def compile_run(
  task: Task, optimizer: Callable[[Any], Any]
) -> Callable[..., Run]:
  """One run as a compiled function ``run(rate, seed, steps=task.steps)``.

  There is one loss and gradient per step of the loop, whatever the optimizer. A
  shorter run is the same program, stopped earlier: what it takes can be timed.
  """

  def train(rate, params, batches, steps):
    tx = optimizer(rate)

    def step(i, carry):
      params, opt_state, losses = carry
      batch = jax.tree.map(lambda x: x[i], batches)
      loss, grads = jax.value_and_grad(task.loss)(params, batch)
      updates, opt_state = tx.update(grads, opt_state, params)
      params = optax.apply_updates(params, updates)
      return params, opt_state, losses.at[i].set(loss)

    losses = jnp.zeros(task.steps, jax.eval_shape(task.evaluate, params).dtype)
    params, opt_state, losses = jax.lax.fori_loop(
      0, steps, step, (params, tx.init(params), losses)
    )
    predicted = jnp.int32(0)
    if has_predictor(opt_state):
      predicted = get_stats(opt_state).predicted_steps
    return losses, predicted, task.evaluate(params)

  def arguments(rate, seed, steps):
    batches = task.batches(seed, task.steps)
    return jnp.float32(rate), task.init(seed), batches, jnp.int32(steps)

  compiled = jax.jit(train).lower(*arguments(1.0, 0, 1)).compile()

  def run(rate, seed, steps=task.steps):
    inputs = jax.block_until_ready(arguments(rate, seed, steps))
    started = time.perf_counter()
    losses, predicted, final = jax.block_until_ready(compiled(*inputs))
    seconds = time.perf_counter() - started
    losses = np.asarray(losses)[:steps]
    return Run(rate, seed, losses, int(predicted), float(final), seconds)

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
