"""Data-parallel training on several processes, with predicted steps.

  python examples/multihost.py                 # two processes on this machine

  # On a cluster, on machine i of n:
  python examples/multihost.py --coordinator HOST:PORT --processes n --process i

Every process holds all parameters and its own part of the data. Only the true
gradients travel: a predicted step is computed by each process from what it
has, and all of them arrive at the same bits.
"""

import argparse
import hashlib
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import optax

import optax_predict

_ROWS = 256


class Worker(NamedTuple):
  """One process of a run on this machine, and the file it prints to."""

  process: subprocess.Popen
  output: Any


def local_data(process: int, processes: int) -> tuple[np.ndarray, np.ndarray]:
  """This process's part of the data: its files, on a real cluster."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal((_ROWS, 8)).astype(np.float32)
  y = np.sin(x @ rng.standard_normal((8, 2)).astype(np.float32))
  mine = slice(_ROWS * process // processes, _ROWS * (process + 1) // processes)
  return x[mine], y[mine]


def loss_fn(params, batch):
  """Mean squared error over the rows of all processes."""
  x, y = batch
  return jnp.mean((jnp.tanh(x @ params["w1"]) @ params["w2"] - y) ** 2)


def train(steps: int) -> dict:
  """Trains with all devices of all processes; what every process ends with."""
  mesh = jax.make_mesh((jax.device_count(),), ("data",))
  everywhere = NamedSharding(mesh, PartitionSpec())
  by_row = NamedSharding(mesh, PartitionSpec("data"))
  batch = tuple(
    jax.make_array_from_process_local_data(by_row, part)
    for part in local_data(jax.process_index(), jax.process_count())
  )
  tx = optax.chain(
    optax_predict.predict_gradients(optax_predict.forecasters.secant(memory=2)),
    optax.sgd(0.1, momentum=0.9),
  )

  def init():
    keys = jax.random.split(jax.random.key(0))
    params = {
      "w1": 0.3 * jax.random.normal(keys[0], (8, 16)),
      "w2": 0.3 * jax.random.normal(keys[1], (16, 2)),
    }
    return params, tx.init(params)

  def train_step(params, opt_state, batch):
    loss, grads = jax.value_and_grad(loss_fn)(params, batch)
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    params, opt_state = optax_predict.fast_forward(tx, params, opt_state)
    return params, opt_state, loss

  train_step = jax.jit(
    train_step, out_shardings=everywhere, donate_argnums=(0, 1)
  )
  params, opt_state = jax.jit(init, out_shardings=everywhere)()
  for step in range(steps):
    params, opt_state, loss = train_step(params, opt_state, batch)
    if step == 0:
      print(f"first loss {float(loss):.4f}", flush=True)
  stats = optax_predict.get_stats(opt_state)
  held = b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(params))
  return {
    "process": jax.process_index(),
    "loss": float(loss),
    "true_gradients": int(stats.computed_steps),
    "steps": int(stats.total_steps),
    "parameters": hashlib.sha256(held).hexdigest(),
  }


def start(processes: int, arguments: list[str]) -> list[Worker]:
  """Starts this file as many times, with a free port to meet at."""
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
  workers = []
  for i in range(processes):
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115, read in wait()
    command = [sys.executable, str(pathlib.Path(__file__).resolve())]
    command += ["--coordinator", address, "--process", str(i)]
    command += ["--processes", str(processes), *arguments]
    process = subprocess.Popen(command, stdout=output, stderr=output)
    workers.append(Worker(process, output))
  return workers


def printed(worker: Worker) -> str:
  """What a process has printed so far, errors included."""
  worker.output.seek(0)
  return worker.output.read()


def wait(workers: list[Worker], timeout: float) -> list[dict]:
  """What each process ends with.

  A process that dies leaves the others waiting for its part of a sum: they are
  stopped at once, and so are all when time is up.

  Args:
    workers: from :func:`start`.
    timeout: seconds.

  Returns:
    The result of :func:`train` of every process.

  Raises:
    RuntimeError: if a process failed; names it and repeats its last lines.
    TimeoutError: if they did not end in time.
  """
  deadline = time.monotonic() + timeout
  try:
    while True:
      codes = [worker.process.poll() for worker in workers]
      for i, code in enumerate(codes):
        if code:
          lines = printed(workers[i]).splitlines()
          # Without the frames of native stack traces.
          lines = [x for x in lines if not x.startswith("    @ ")][-15:]
          raise RuntimeError(
            f"process {i} ended with code {code}; the others were stopped."
            " Its last lines:\n" + "\n".join(lines)
          )
      if None not in codes:
        return [json.loads(printed(w).splitlines()[-1]) for w in workers]
      if time.monotonic() > deadline:
        raise TimeoutError(f"not done after {timeout:g} s; stopped.")
      time.sleep(0.05)
  finally:
    for worker in workers:
      worker.process.kill()
      worker.process.wait()
      worker.output.close()


def work(arguments) -> None:
  """One process of a run: joins the others, trains, prints its result."""
  jax.distributed.initialize(
    arguments.coordinator,
    arguments.processes,
    arguments.process,
    initialization_timeout=arguments.connect_timeout,
  )
  print(json.dumps(train(arguments.steps)), flush=True)


def main(argv: list[str] | None = None) -> None:
  """Joins a run, or starts one on this machine and checks that all agree."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--processes", type=int, default=2)
  parser.add_argument("--process", type=int, help="which one this is")
  parser.add_argument("--coordinator", help="HOST:PORT of process 0")
  parser.add_argument("--steps", type=int, default=40, help="true gradients")
  parser.add_argument("--timeout", type=float, default=300, help="seconds")
  parser.add_argument("--connect-timeout", type=int, default=30, help="seconds")
  arguments = parser.parse_args(argv)
  if arguments.coordinator is not None:
    work(arguments)
    return
  workers = start(arguments.processes, ["--steps", str(arguments.steps)])
  try:
    results = wait(workers, arguments.timeout)
  except (RuntimeError, TimeoutError) as error:
    raise SystemExit(f"error: {error}") from None
  for result in results:
    print(json.dumps(result))
  if len({r["parameters"] for r in results}) > 1:
    raise SystemExit("error: the processes hold different parameters.")


if __name__ == "__main__":
  main()
