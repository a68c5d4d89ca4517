"""True gradients to a target with the history in float32 and in bfloat16.

python -m benchmarks.cost.history_precision

Three small deterministic tasks, heavy ball at the rate that is best for it
without prediction, three starts. Under two minutes on two cores.
"""

import argparse
import json
import math
import pathlib
import statistics
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import environment
from benchmarks import tasks
from benchmarks.methods import targets
import optax_predict

_RESULTS = pathlib.Path(__file__).parents[1] / "results"
TASKS = ("quadratic_1e2", "logistic_cancer", "heat_initial")
SEEDS = (0, 1, 2)
TAU = 1e-3
# Four rates per decade.
RATES = tuple(10 ** (k / 4) for k in range(-16, 9))
HISTORIES = {"float32": None, "bfloat16": jnp.bfloat16}


def _heavy_ball(rate):
  return optax.sgd(rate, momentum=0.9)


def plain_losses(task: tasks.Task, starts: Any) -> np.ndarray:
  """Losses without prediction, ``[rates, seeds, budget]``."""

  def losses(rate, params):
    tx = _heavy_ball(rate)

    def step(carry, _):
      params, state = carry
      loss, gradients = jax.value_and_grad(task.loss)(params)
      updates, state = tx.update(gradients, state, params)
      return (optax.apply_updates(params, updates), state), loss

    carry = params, tx.init(params)
    return lax.scan(step, carry, None, length=task.budget)[1]

  over_starts = jax.vmap(losses, (None, 0))
  over_rates = jax.vmap(over_starts, (0, None))
  return np.asarray(jax.jit(over_rates)(jnp.asarray(RATES), starts))


def predicting_losses(
  task: tasks.Task, starts: Any, rate: float, dtype: Any
) -> np.ndarray:
  """Losses at the true gradients with prediction, ``[seeds, budget]``."""
  predict = optax_predict.predict_gradients(accumulator_dtype=dtype)
  tx = optax.chain(predict, _heavy_ball(rate))

  @jax.jit
  def train_step(params, state):
    loss, gradients = jax.value_and_grad(task.loss)(params)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    return *optax_predict.fast_forward(tx, params, state), loss

  init, runs = jax.jit(tx.init), []
  for seed in range(len(SEEDS)):
    params = jax.tree.map(lambda x, seed=seed: x[seed], starts)
    state, losses = init(params), []
    for _ in range(task.budget):
      params, state, loss = train_step(params, state)
      losses.append(loss)
    runs.append(losses)
  return np.asarray(runs)


def _needed(losses, levels) -> float:
  """Median over starts of the true gradients to the target."""
  return statistics.median(
    targets.evaluations(list(run), level) for run, level in zip(losses, levels)
  )


def measure(name: str) -> dict:
  """One task: true gradients without prediction and with each history."""
  task = tasks.get(name)
  starts = jax.tree.map(
    lambda *x: jnp.stack(x), *(task.init(seed) for seed in SEEDS)
  )
  plain = plain_losses(task, starts)

  def levels(*found):
    best = np.nanmin(
      np.concatenate([x.reshape(-1, *plain.shape[1:]) for x in found]),
      axis=(0, 2),
    )
    return targets.level(plain[0, :, 0], best, TAU)

  needed = [_needed(runs, levels(plain)) for runs in plain]
  rate = RATES[int(np.argmin(needed))]
  found = {
    dtype: predicting_losses(task, starts, rate, history)
    for dtype, history in HISTORIES.items()
  }
  wanted = levels(plain, *found.values())
  runs = {"none": plain[RATES.index(rate)]} | found
  return {
    "task": name,
    "rate": rate,
    "true_gradients": {key: _needed(run, wanted) for key, run in runs.items()},
  }


def main(argv: list[str] | None = None) -> None:
  """Measures every task and writes one JSON file."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.cost.history_precision"
  )
  parser.add_argument("--tasks", nargs="+", default=TASKS)
  parser.add_argument("--results", type=pathlib.Path, default=_RESULTS)
  arguments = parser.parse_args(argv)
  rows = [measure(name) for name in arguments.tasks]
  for row in rows:
    if not all(map(math.isfinite, row["true_gradients"].values())):
      raise RuntimeError(f"a run missed the target: {row}.")
  content = {"made": environment.describe(), "tau": TAU, "rows": rows}
  arguments.results.mkdir(parents=True, exist_ok=True)
  file = arguments.results / "history_precision.json"
  file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
  main()
