"""What `accelerate` costs at every true gradient, beside the optimizer's own update.

python -m benchmarks.cost.accelerated

The gradient is the parameters, so what is timed is the optimizer: in one compiled loop,
and as one jitted call per gradient, which hands every array of the state to the host
and back. A gradient is let through in a rest, or recorded with no window after it, or
recorded with a window of 32 predicted steps. Operations are those that a compiled
program runs: a loop's body counted once, of a branch the longer one.
"""

import argparse
from collections.abc import Callable
import functools
import itertools
import json
import pathlib
import statistics
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax
import tqdm

from benchmarks import environment
from benchmarks.cost import hlo
from benchmarks.cost import timing
import optax_predict
from optax_predict.forms import few_arrays

WINDOW = 32
_FILL = 24
_BASES = {
  "adam": functools.partial(optax.adam, 1e-4),
  "momentum": functools.partial(optax.sgd, 1e-4, momentum=0.9),
}
# Arrays, and numbers in all.
_SHAPES = (
  (1, 50),
  (1, 1000),
  (50, 1000),
  (300, 600_000),
  (1, 4_000_000),
  (50, 4_000_000),
)
_RESULTS = pathlib.Path(__file__).parents[1] / "results"


def _horizons() -> dict[str, optax_predict.Horizon]:
  """The default's horizon, made to do the same at every gradient."""
  default = optax_predict.horizons.adaptive()

  def always(steps):
    def update(error, state):
      planned = jnp.where(error.history_size > 1, steps, 0).astype(jnp.int32)
      return planned, default.update(error, state)[1]

    return default._replace(update=update, rest=None)

  return {
    "rest": always(0)._replace(rest=lambda state: jnp.int32(2**30)),
    "record": always(0),
    "window": always(WINDOW)._replace(
      max_growth=None, max_expected_error=None, reach=None, trust=None
    ),
  }


def _forecaster(name: str) -> optax_predict.Forecaster:
  default = optax_predict.forecasters.secant()
  # These gradients are no noise: with nothing to compare them with, a rest begins.
  return default._replace(recall=None) if name == "rest" else default


def _params(arrays: int, numbers: int) -> dict[str, jax.Array]:
  size = numbers // arrays
  return {
    f"layer{i}": jax.random.normal(jax.random.key(i), [size])
    for i in range(arrays)
  }


def _step(tx, params, state):
  updates, state = tx.update(params, state, params)
  return optax.apply_updates(params, updates), state


def _loop(tx, count: int) -> Callable[..., Any]:
  def loop(params, state):
    return lax.fori_loop(
      0, count, lambda _, carry: _step(tx, *carry), (params, state)
    )

  return loop


def _seconds(
  contestants: dict[str, Any], params: Any, count: int, is_called: bool
) -> dict[str, float]:
  """Median seconds per true gradient, in a loop or in calls of their own."""
  runs = {}
  for name, tx in contestants.items():
    state = tx.init(params)
    # Enough gradients to fill any history.
    carry = jax.jit(_loop(tx, _FILL))(params, state)
    run = functools.partial(_step, tx) if is_called else _loop(tx, count)
    program = jax.jit(run, donate_argnums=(0, 1))
    calls = count if is_called else 1
    runs[name] = timing.Carried(program, carry, calls=calls)
  found = timing.interleaved(runs)
  return {name: statistics.median(x) / count for name, x in found.items()}


def _operations(params: Any, base: Any) -> dict[str, int]:
  predictor = optax_predict.gradient_predictor()
  # As `accelerate` shows small arrays to its predictor.
  seen = few_arrays.merge(params)
  state = predictor.init(seen)
  programs = {
    "update": (base.update, params, base.init(params), params),
    "recording": (predictor.record_gradient, seen, state, seen),
    "forecast": (predictor.predict_gradient, state, seen),
  }
  return {
    name: hlo.count_operations(
      jax.jit(function).lower(*arguments).compile().as_text()
    )
    for name, (function, *arguments) in programs.items()
  }


def measure(base_name: str, arrays: int, numbers: int) -> dict[str, Any]:
  """One row: seconds per true gradient, what compiles and how many operations."""
  params, base = _params(arrays, numbers), _BASES[base_name]()
  ours = {
    name: optax_predict.accelerate(base, _forecaster(name), horizon)
    for name, horizon in _horizons().items()
  }
  is_large = numbers > 100_000
  count = 4 if is_large else 200
  called = {"base": base, "rest": ours["rest"]}
  tx = optax_predict.accelerate(base)
  state = tx.init(params)
  compiled = timing.Program(functools.partial(_step, tx), params, state)
  return {
    "base": base_name,
    "arrays": arrays,
    "numbers": numbers,
    "loop_s": _seconds({"base": base, **ours}, params, count, False),
    "call_s": _seconds(called, params, 10 if is_large else 50, True),
    "compile_s": compiled.compile_s,
    "state_arrays": len(jax.tree.leaves(state)),
    "base_arrays": len(jax.tree.leaves(base.init(params))),
    "operations": _operations(params, base),
  }


def main(argv: list[str] | None = None) -> None:
  """Measures every row and writes one JSON file for this device."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.cost.accelerated")
  parser.add_argument("--results", type=pathlib.Path, default=_RESULTS)
  parser.add_argument("--quick", action="store_true", help="small sizes")
  arguments = parser.parse_args(argv)
  shapes = _SHAPES[:1] if arguments.quick else _SHAPES
  made = environment.describe()
  settings = list(itertools.product(_BASES, shapes))
  rows = [measure(base, *shape) for base, shape in tqdm.tqdm(settings)]
  file = arguments.results / f"accelerated_{environment.slug(made)}.json"
  arguments.results.mkdir(parents=True, exist_ok=True)
  file.write_text(json.dumps({"made": made, "rows": rows}, indent=1) + "\n")
  print("written to", file)


if __name__ == "__main__":
  main()
