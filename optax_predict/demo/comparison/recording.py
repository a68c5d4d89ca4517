"""What a run writes down, and what is read from it."""

from collections.abc import Sequence
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_predict.demo.runs import best_so_far


class Run(NamedTuple):
  """One run; ``starts`` is there for a loss that is a vector only.

  Attributes:
    name: for tables and plots.
    losses: ``[gradients, starts]``, at every true gradient, in order.
    seconds: ``[gradients]``, since the start, after what followed from each.
    compile_seconds: what came before the start.
    params: where the loss was lowest.
    metric: ``[gradients]`` or ``None``; its time is in no clock.
  """

  name: str
  losses: np.ndarray
  seconds: np.ndarray
  compile_seconds: float
  params: Any
  metric: np.ndarray | None = None


class Notes:
  """Losses and times; the clock stands still while a metric is computed."""

  def __init__(self, metric):
    self.losses: list[np.ndarray] = []
    self.seconds: list[float] = []
    self.metrics: list[np.ndarray] = []
    self.best: tuple[Any, Any] = (np.inf, None)
    self._metric = metric and jax.jit(metric)
    self._paused = 0.0
    self._started = time.perf_counter()

  def loss(self, loss):
    """Notes a loss, and when it was known."""
    now = time.perf_counter()
    self.losses.append(np.asarray(loss))
    self.seconds.append(now - self._started - self._paused)

  def params(self, params, loss):
    """Keeps the best, and fills the metric up to the number of losses."""
    before = time.perf_counter()
    lowest, best = self.best
    is_better = np.asarray(loss < lowest)
    if np.all(is_better) or best is None:
      self.best = loss, params
    elif np.any(is_better):

      def choose(new, old):
        return np.where(is_better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

      self.best = (
        np.where(is_better, loss, lowest),
        jax.tree.map(choose, params, best),
      )
    if self._metric is not None:
      missing = len(self.losses) - len(self.metrics)
      self.metrics += [np.asarray(self._metric(params))] * missing
    self._paused += time.perf_counter() - before

  def run(self, name, compile_seconds):
    """What was noted, as a run."""
    return Run(
      name,
      np.asarray(self.losses),
      np.asarray(self.seconds),
      compile_seconds,
      self.best[1],
      np.asarray(self.metrics) if self.metrics else None,
    )


def strong(params: Any) -> Any:
  """Without weak types, which updates would lose and programs compile anew."""
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), params)


def stack(runs: Sequence[Run]) -> Run:
  """Runs from several starts, one after the other, as one of all starts.

  Where one ended before the others, its best loss stands; times add up.
  """
  count = max(run.losses.size for run in runs)

  def fill(values):
    return np.pad(values, (0, count - values.size), mode="edge")

  return Run(
    runs[0].name,
    np.stack([fill(best_so_far(run.losses)) for run in runs], axis=1),
    sum(fill(run.seconds) for run in runs),
    runs[0].compile_seconds,
    jax.tree.map(lambda *leaves: np.stack(leaves), *(r.params for r in runs)),
  )


def follow(name: str, first: Run, second: Run) -> Run:
  """The second run after the first, as one, such as L-BFGS after Adam."""
  metric = None
  if first.metric is not None and second.metric is not None:
    metric = np.concatenate([first.metric, second.metric])
  return Run(
    name,
    np.concatenate([first.losses, second.losses]),
    np.concatenate([first.seconds, first.seconds[-1] + second.seconds]),
    first.compile_seconds + second.compile_seconds,
    min(first, second, key=lambda run: float(final_loss(run))).params,
    metric,
  )


def gradients_to(run: Run, target: Any) -> float:
  """True gradients to the target, infinity if not reached; median of starts."""
  return float(np.median(_needed(run, target)))


def seconds_to(run: Run, target: Any) -> float:
  """Wall time to the target, all starts together, until the median is there."""
  count = gradients_to(run, target)
  return float(run.seconds[int(count) - 1]) if np.isfinite(count) else np.inf


def final_loss(run: Run) -> np.ndarray:
  """The lowest loss of each start."""
  return best_so_far(run.losses)[-1]


def _needed(run, target):
  reached = best_so_far(run.losses) <= np.asarray(target)
  return np.where(reached[-1], 1 + np.sum(~reached, axis=0), np.inf)
