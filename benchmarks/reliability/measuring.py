"""Everything the page shows, in as many processes as there are cores."""

from concurrent import futures
import math
import multiprocessing
import time
from typing import Any

from benchmarks import environment
from benchmarks.reliability import comparing
from benchmarks.reliability import families
from benchmarks.reliability import fault_table
from benchmarks.reliability import faults
from benchmarks.reliability import long_run
from benchmarks.reliability import on_tasks
from optax_predict import forecasters

QUICK = comparing.Size(
  count=2,
  horizon=40,
  grid=(0.01, 0.1, 1.0),
  chosen=families.named(("quadratic", "rosenbrock", "cliffs", "minibatches")),
)


def _compare(name: str, size: comparing.Size):
  return "optimizers", name, comparing.compare(name, size)


def _inject(name: str, is_quick: bool):

  if is_quick:
    case, forecaster = faults.cases((9, 10), (1,)), forecasters.secant(3)
  else:
    case, forecaster = faults.cases(), None
  results = fault_table.inject(name, case, forecaster)
  return "faults", name, fault_table.rows(results)


def _long_run(is_quick: bool):

  if is_quick:
    return "long_run", None, long_run.run(10_000, 2, forecasters.secant(3))
  return "long_run", None, long_run.run(1_000_000)


def measure(
  size: comparing.Size, bases: list[str], is_quick: bool, jobs: int
) -> dict[str, Any]:
  """Everything that the page shows.

  Args:
    size: how many problems, and which.
    bases: keys of ``running.BASES``.
    is_quick: fewer faults, a shorter long run.
    jobs: processes; 0 works in this one.
  """
  faulty = list(fault_table.BASES)[: 1 if is_quick else None]
  begun = time.perf_counter()
  tasks: list[tuple] = [(_long_run, is_quick)]
  tasks += [(_compare, name, size) for name in bases]
  tasks += [(_inject, name, is_quick) for name in faulty]
  results: dict[str, Any] = {
    "made": environment.describe(),
    "size": {
      "count": size.count,
      "horizon": size.horizon,
      "seed": size.seed,
      "grid": list(size.grid),
      "families": [f.name for f in size.chosen],
    },
    "taus": [f"{tau:g}" for tau in comparing.TAUS],
    "tasks": on_tasks.published(),
    "optimizers": dict.fromkeys(bases),
    "faults": dict.fromkeys(faulty),
  }
  for kind, name, found in _all(tasks, jobs):
    print("done:", kind, name or "", flush=True)
    if name is None:
      results[kind] = found
    else:
      results[kind][name] = found
  results |= {"jobs": jobs, "seconds": time.perf_counter() - begun}
  return _plain(results)


def _all(tasks, jobs):
  if not jobs:
    yield from (task[0](*task[1:]) for task in tasks)
    return
  context = multiprocessing.get_context("spawn")
  with futures.ProcessPoolExecutor(jobs, context) as pool:
    for future in futures.as_completed([pool.submit(*t) for t in tasks]):
      yield future.result()


def _plain(value):
  """JSON has no infinity: a miss is null. Three decimals are enough."""
  if isinstance(value, dict):
    return {key: _plain(v) for key, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  if isinstance(value, float):
    return float(f"{value:.4g}") if math.isfinite(value) else None
  return value
