"""Minibatch runs for the regime map: one cell is a method at a batch size.

The same rule for every method: the rate with the lowest final loss at the
first seed and the next best run with all seeds, and the mean over seeds
decides. A method with prediction also runs at its base's rate. The n-th true
gradient of every method sees the n-th batch of its seed, so seeds are pairs.
"""

import functools
import math
import pathlib
import statistics
from typing import Any
from typing import NamedTuple

import jax
from jax import flatten_util
import numpy as np

from benchmarks.methods import opponents
from benchmarks.methods import tuning
from benchmarks.savings import cell_files
from benchmarks.tasks import noisy
import optax_predict

SEEDS = (0, 1, 2, 3, 4)
CHECKPOINTS = 20
_SMOOTHED = 3
_CANDIDATES = 2


class NoisyRun(NamedTuple):
  """The ledger of one minibatch run.

  Attributes:
    rate: learning rate.
    seed: of the start and of the order of examples.
    evaluated: true gradients at each checkpoint.
    losses: loss over all data at each checkpoint, evaluated for the record
      only and seen by no method; infinity once it is not finite.
    predicted: steps without a gradient at each checkpoint.
  """

  rate: float
  seed: int
  evaluated: list[int]
  losses: list[float]
  predicted: list[int]

  @property
  def final(self) -> float:
    """The mean of the last checkpoints, which smooths the last few steps."""
    return statistics.fmean(self.losses[-_SMOOTHED:])


class _Problem:
  """A noisy task with flat parameters and its losses compiled once."""

  def __init__(self, task: noisy.NoisyTask):
    self.task = task
    flat, self._unravel = flatten_util.ravel_pytree(task.init(0))
    self.size = flat.size
    self.value_and_grad = jax.jit(jax.value_and_grad(self._loss))
    self.full_loss = jax.jit(lambda x: self._loss(x, task.data))

  def _loss(self, x, batch):
    return self.task.loss(self._unravel(x), batch)

  def start(self, seed: int) -> jax.Array:
    """The flat start of a seed."""
    return flatten_util.ravel_pytree(self.task.init(seed))[0]


@functools.cache
def _problem(name: str) -> _Problem:
  return _Problem(noisy.get(name))


def names() -> list[str]:
  """Every noisy task at every batch size, as `noisy/NAME@SIZE`."""
  tasks = [noisy.get(name) for name in noisy.names()]
  return [f"{task.name}@{size}" for task in tasks for size in task.batch_sizes]


def methods_for(task: str, methods: list[str]) -> list[str]:
  """The bases the task is about, plain and with prediction."""
  bases = noisy.get(task.split("@")[0]).bases
  wanted = {name for base in bases for name in (base, f"{base}+predict")}
  return [m for m in methods if m in wanted]


def _predicted(state: Any, evaluated: int) -> int:
  try:
    stats = optax_predict.get_stats(state)
  except ValueError:  # A plain optimizer has no predictor to ask.
    return 0
  if int(stats.computed_steps) != evaluated:
    raise RuntimeError("the predictor's count of true gradients is not ours.")
  return int(stats.predicted_steps)


def run(
  problem: _Problem, method: str, size: int, rate: float, seed: int
) -> NoisyRun:
  """One run over `budget` batches; after divergence, losses are infinite."""
  task, step, x = problem.task, opponents.step(method), problem.start(seed)
  state = opponents.init(method)(x)
  every, rate32 = task.budget // CHECKPOINTS, np.float32(rate)
  evaluated, losses, predicted = [], [], []
  for count, batch in enumerate(noisy.batches(task, size, seed), 1):
    _, gradient = problem.value_and_grad(x, batch)
    x, state = step(rate32, x, state, gradient)
    if count % every == 0:
      loss = float(problem.full_loss(x))
      evaluated.append(count)
      losses.append(loss if math.isfinite(loss) else math.inf)
      predicted.append(_predicted(state, count))
      if not math.isfinite(loss):
        break
  short = CHECKPOINTS - len(losses)
  return NoisyRun(
    rate,
    seed,
    evaluated + [task.budget] * short,
    losses + [math.inf] * short,
    predicted + predicted[-1:] * short,
  )


def _search(evaluate, guess: int) -> dict[int, NoisyRun]:
  """Decades outwards, then halves and quarters, by the final loss alone."""
  decade = tuning.POINTS_PER_DECADE
  grid = {k: evaluate(k) for k in range(guess - decade, guess + 2 * decade, 4)}
  for spacing in (decade, decade // 2, decade // 4):
    while len(grid) < 24:
      best = min(grid, key=lambda k: (grid[k].final, k))
      missing = {best - spacing, best + spacing} - grid.keys()
      if not missing:
        break
      grid |= {k: evaluate(k) for k in missing}
  return grid


class NoisyBench:
  """Runs and reads the cells of one noisy task at one batch size."""

  def __init__(self, folder: pathlib.Path, task: str, methods: list[str]):
    self.folder, self.task = folder, task
    name, size = task.split("@")
    self._name, self._size = name, int(size)
    self.methods = methods_for(task, methods)

  def planned(self) -> list[tuple[str, str]]:
    """The cells, bases first."""
    return [(method, "seeds") for method in self.methods]

  def run_cell(self, method: str, stage: str) -> None:
    """Runs one cell unless it is there."""
    file = cell_files.path(self.folder, self.task, method, stage)
    if file.exists():
      return
    problem = _problem(self._name)
    evaluate = functools.partial(run, problem, method, self._size)
    guess = -8 if method.startswith("adam") else -4
    grid = _search(lambda k: evaluate(tuning.rate_of(k), 0), guess)
    best = sorted(grid, key=lambda k: (grid[k].final, k))[:_CANDIDATES]
    base = opponents.METHODS[method].base
    chosen, ks = {}, set(best)
    if method != base:
      chosen["drop_in"] = self._chosen(base)
      ks.add(chosen["drop_in"])
    runs = {
      k: [
        grid[k] if k in grid and s == 0 else evaluate(tuning.rate_of(k), s)
        for s in SEEDS
      ]
      for k in sorted(ks)
    }
    chosen["tuned"] = min(
      best, key=lambda k: (statistics.fmean(r.final for r in runs[k]), k)
    )
    content = {
      "task": self.task,
      "method": method,
      "budget": problem.task.budget,
      "size": problem.size,
      "chosen": chosen,
      "runs": [_to_json(r, k) for k in runs for r in runs[k]],
    }
    cell_files.save(file, content)

  def _chosen(self, method: str) -> int:
    file = cell_files.path(self.folder, self.task, method, "seeds")
    return cell_files.load(file)["chosen"]["tuned"]


def _to_json(run: NoisyRun, k: int) -> dict:
  losses = [cell_files.number(x) for x in run.losses]
  return run._asdict() | {"losses": losses, "k": k}
