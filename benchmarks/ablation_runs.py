"""The settings of the ablation, and how one of them runs on one task."""

from collections.abc import Callable
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import opponents
from benchmarks import running
from benchmarks import targets
from benchmarks import tasks
from benchmarks import tuning
import optax_predict
from optax_predict import forecasters
from optax_predict import horizons

BUDGET = 300
STARTS = (0, 1, 2)
TAU = targets.TAUS[1]
# The ratio of a run that needs more than twice the base's gradients, or misses.
WORST = 2.0
# One size for all tasks, so that every setting is compiled once for a base:
# that takes longer than what it then runs.
_SIZE = 4096
_MOST_RATES = 24

Transformation = Callable[[], optax.GradientTransformation]


def _secant(**options) -> Transformation:
  return lambda: optax_predict.predict_gradients(forecasters.secant(**options))


def _adaptive(**options) -> Transformation:
  """The default forecaster; an option of None switches that limit off."""
  given = {k: v for k, v in options.items() if v is not None}
  lifted = {k: None for k in options.keys() - given.keys()}

  def make():
    horizon = horizons.adaptive(**given)._replace(**lifted)
    return optax_predict.predict_gradients(horizon=horizon)

  return make


def _forecaster(build) -> Transformation:
  return lambda: optax_predict.predict_gradients(build())


def _changes(make, **values) -> dict[str, Transformation]:
  """One setting per value of one option."""
  return {
    f"{name}={str(value).lower() if value is None else value}": make(
      **{name: value}
    )
    for name, listed in values.items()
    for value in listed
  }


SETTINGS: dict[str, Transformation] = {
  "default": optax_predict.predict_gradients,
  **_changes(
    _secant,
    memory=(3, 5, 20),
    damping=(0.0, 0.3, 1.0),
    ridge_growth=(1.0,),
    symmetric=(False,),
  ),
  **_changes(
    _adaptive,
    rtol=(0.3, 0.8),
    max_steps=(8, 64),
    max_growth=(1.2, None),
    max_expected_error=(0.2, 0.8, None),
  ),
  "forecaster trend": _forecaster(forecasters.trend),
  "forecaster trend, decay=0": _forecaster(
    functools.partial(forecasters.trend, decay=0.0)
  ),
  "forecaster holt": _forecaster(forecasters.holt),
  "forecaster momentum": _forecaster(forecasters.momentum),
}


@functools.cache
def _step(setting: str, base: str) -> Callable[..., tuple[Any, Any]]:
  """The compiled `(rate, params, state, gradient) -> (params, state)`."""

  @jax.jit
  def run(rate, params, state, gradient):
    tx = optax.chain(SETTINGS[setting](), opponents.BASES[base](rate))
    updates, state = tx.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  return run


@functools.cache
def _init(setting: str, base: str) -> Callable[[Any], Any]:
  tx = optax.chain(SETTINGS[setting](), opponents.BASES[base](0.0))
  return jax.jit(tx.init)


def _start(problem: running.Problem, seed: int) -> jax.Array:
  x = problem.start(seed)
  return jnp.pad(x, (0, max(_SIZE - x.size, 0)))


def count(
  problem: running.Problem,
  setting: str,
  base: str,
  rate: float,
  seed: int,
  level: float,
  most: int,
) -> int | None:
  """True gradients until the loss is at a level; None past `most` of them."""
  step, x = _step(setting, base), _start(problem, seed)
  state = _init(setting, base)(x)
  for n in range(1, most + 1):
    loss, gradient = problem.value_and_grad(x)
    if not math.isfinite(loss):
      return None
    if loss <= level:
      return n
    x, state = step(np.float32(rate), x, state, gradient)
  return None


def _best_k(grid: tuning.Grid) -> int:
  best = min(targets.lowest(run.losses) for run in grid.values())
  return tuning.best_k(grid, best, TAU)


def _search(problem: running.Problem, base: str) -> tuning.Grid:
  """Decades outwards, then halves and quarters around the best."""
  decade = tuning.POINTS_PER_DECADE
  guess, grid = tuning.first_guess(problem, base), {}
  wanted = {guess - decade, guess, guess + decade}
  for spacing in (decade, decade // 2, decade // 4):
    while wanted and len(grid) < _MOST_RATES:
      for k in sorted(wanted):
        grid[k] = running.run(problem, base, tuning.rate_of(k), 0)
      best = _best_k(grid)
      wanted = {best - spacing, best + spacing} - grid.keys()
    best = _best_k(grid)
    finer = max(spacing // 2, 1)
    wanted = {best - finer, best + finer} - grid.keys()
  return grid


def _is_whole(run: running.Run) -> bool:
  return math.isfinite(run.losses[-1])


def tuned_base(problem: running.Problem, base: str) -> dict:
  """The base's rate, and at each start its target and its true gradients.

  Of rates that do not diverge from any start, the best is at or below the best
  of the first start.
  """
  k = _best_k(_search(problem, base))
  while True:
    rate = tuning.rate_of(k)
    runs = [running.run(problem, base, rate, seed) for seed in STARTS]
    if all(map(_is_whole, runs)):
      break
    k -= 1
  levels = [
    targets.level(run.losses[0], targets.lowest(run.losses), TAU)
    for run in runs
  ]
  pairs = zip(runs, levels)
  counts = [targets.evaluations(run.losses, level) for run, level in pairs]
  return {"rate": rate, "levels": levels, "base": counts, "counts": {}}


def run_cell(
  found: dict, name: str, base: str, settings: list[str], save: Callable
) -> None:
  """Runs what is missing of one task and base, saving after every setting."""
  cell = found["cells"].get(f"{name}/{base}", {"counts": {}})
  missing = [s for s in settings if s not in cell["counts"]]
  if not missing:
    return
  problem = _problem(name)
  if "base" not in cell:
    cell = tuned_base(problem, base)
    found["cells"][f"{name}/{base}"] = cell
  for setting in missing:
    cell["counts"][setting] = [
      count(
        problem,
        setting,
        base,
        cell["rate"],
        seed,
        cell["levels"][seed],
        min(BUDGET, int(WORST * cell["base"][seed])),
      )
      for seed in STARTS
    ]
    save(found)


@functools.lru_cache(maxsize=1)
def _problem(name: str) -> running.Problem:
  return running.Problem(tasks.get(name)._replace(budget=BUDGET))
