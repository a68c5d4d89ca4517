"""Runs cells, in several processes, until none is missing."""

from collections.abc import Callable
from collections.abc import Iterable
import concurrent.futures
import functools
import multiprocessing
import os
import pathlib
import sys
import time
import traceback

import tqdm

# The workers' threads must not fight over cores, and a CPU run must not see an
# accelerator: the ledger does not depend on either, the time it takes does.
_WORKER_ENVIRONMENT = {
  "JAX_PLATFORMS": "cpu",
  "XLA_FLAGS": (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
  ),
  "OMP_NUM_THREADS": "1",
  "OPENBLAS_NUM_THREADS": "1",
}

QUICK_TASKS = (
  "quadratic_1e2",
  "logistic_cancer",
  "heat_initial",
  "digits_mlp",
  "softmax_digits",
  "phase_retrieval",
  "cutest/ROSENBR",
  "cutest/HILBERTB",
  "cutest/CHNROSNB",
  "noisy/digits_mlp@64",
)
QUICK_METHODS = (
  "sgd",
  "momentum",
  "adam",
  "sgd+predict",
  "momentum+predict",
  "adam+predict",
  "scipy_lbfgs",
)


def bench(folder: pathlib.Path, task: str, methods: list[str]):
  """The cells of one task; imported late, so that listing needs no jax."""
  from benchmarks.savings import cells
  from benchmarks.savings import noisy_cells

  kind = noisy_cells.NoisyBench if task.startswith("noisy/") else cells.Bench
  return kind(folder, task, cells.with_bases(methods))


def missing(folder: pathlib.Path, task: str, methods: list[str]):
  """The cells of a task that have no file yet."""
  from benchmarks.savings import cell_files

  planned = bench(folder, task, methods).planned()
  paths = [cell_files.path(folder, task, *cell) for cell in planned]
  return [p for p in paths if not p.exists()]


def work(
  folder: pathlib.Path,
  task: str,
  methods: list[str],
  parent: int | None = None,
) -> str | None:
  """Runs every missing cell of a task; returns a traceback if one fails.

  A worker whose parent was killed stops before its next cell.
  """
  todo = bench(folder, task, methods)
  try:
    for cell in todo.planned():
      if parent is not None and os.getppid() != parent:
        return None
      todo.run_cell(*cell)
  except Exception:
    return f"{task}, {cell[0]} ({cell[1]}):\n{traceback.format_exc()}"
  return None


def _follow(futures, paths: list[pathlib.Path], hidden: bool) -> None:
  """A progress bar over cell files, which is what survives."""
  with tqdm.tqdm(total=len(paths), unit="cell", disable=hidden) as bar:
    waiting = set(futures)
    while waiting:
      _, waiting = concurrent.futures.wait(waiting, timeout=1.0)
      bar.update(sum(path.exists() for path in paths) - bar.n)


def run(
  folder: pathlib.Path,
  tasks: Iterable[str],
  methods: list[str],
  jobs: int = 2,
  hidden: bool = False,
) -> int:
  """Runs what is missing and reports what failed; returns how many tasks did.

  Args:
    folder: where the cells are kept.
    tasks: names; noisy ones with their batch size.
    methods: names; the bases they are compared with come along.
    jobs: processes. Only counts are taken here, so they do not disturb.
    hidden: no progress bar.
  """
  todo = {task: missing(folder, task, methods) for task in tasks}
  return pooled(
    {task: paths for task, paths in todo.items() if paths},
    functools.partial(work, folder, methods=methods),
    jobs,
    hidden,
  )


def pooled(
  todo: dict[str, list[pathlib.Path]],
  work: Callable[..., str | None],
  jobs: int,
  hidden: bool = False,
) -> int:
  """Works on tasks in several processes; returns how many of them failed.

  Args:
    todo: task -> the files that it will write.
    work: called with ``task`` and ``parent``, the process that a worker ends
      with; returns a traceback if it fails. It must be picklable.
    jobs: processes.
    hidden: no progress bar.
  """
  started = time.time()
  os.environ.update(_WORKER_ENVIRONMENT)
  paths = [path for listed in todo.values() for path in listed]
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(jobs, context) as pool:
    pid = os.getpid()
    futures = [pool.submit(work, task=task, parent=pid) for task in todo]
    try:
      _follow(futures, paths, hidden)
    except KeyboardInterrupt:
      pool.shutdown(wait=False, cancel_futures=True)
      raise
  failures = [f.result() for f in futures if f.result() is not None]
  for failure in failures:
    print(failure, file=sys.stderr)
  minutes = (time.time() - started) / 60
  print(f"{len(paths)} cells of {len(todo)} tasks in {minutes:.1f} minutes")
  return len(failures)
