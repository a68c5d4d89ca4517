"""Loops of libraries with `optax_predict.accelerate`, at their documented size.

python -m benchmarks.clients

Every loop runs with its example's optimizer alone and accelerated; counted are the
true gradients to the loss that it ends at alone. Then it runs for as many only, for
its time. Every run is a process of its own, so that the times
are with all that is compiled. The tables of docs/clients.md are filled.
"""

import argparse
import importlib
from importlib import metadata
import json
import pathlib
import statistics
import subprocess
import sys
import time

import tqdm

from benchmarks import environment
from benchmarks.clients import counting
from benchmarks.clients import tables
from benchmarks.cost import scaling_page

_FOLDER = pathlib.Path(__file__).parent.parent
_RESULTS = _FOLDER / "results" / "clients.json"
_PAGE = _FOLDER.parent / "docs" / "clients.md"
_CLIENTS = (
  "optimistix_minimiser",
  "gpjax_fit",
  "numpyro_svi",
  "jinns_solve",
  "pennylane_vqe",
  "diffrax_ode",
  "flowjax_fit",
  "equinox_mlp",
  "flax_linen",
  "flax_nnx",
)
_NOISY = ("flowjax_fit", "flax_nnx")
_SEEDS = range(3)
_GAPS = (1e-2, 1e-4, 1e-6)


def _client(name: str, is_noisy: bool):
  module = importlib.import_module(f"benchmarks.clients.{name}")
  return module.MINIBATCH if is_noisy else module.CLIENT


def one_run(options: dict) -> dict:
  """One run of a loop in this process."""
  from benchmarks.clients import _base

  client = _client(options["name"], options["is_noisy"])
  made = _base.accelerated if options["is_accelerated"] else _alone
  arguments = {"is_small": options["is_small"], "steps": options["steps"]}
  if client.is_noisy:
    arguments["seed"] = options["seed"]
  begun = time.perf_counter()
  run = client.run(made(client), **arguments)
  seconds = time.perf_counter() - begun
  return {
    "losses": run.losses.tolist(),
    "dtype": run.losses.dtype.name,
    "seconds": seconds,
    "predicted": _predicted(run) if options["is_accelerated"] else None,
  }


def _alone(client):
  return client.optimizer()


def _predicted(run) -> int | None:
  """Predicted steps, checked against the loop's own count; None if unknown."""
  import optax_predict

  if run.opt_state is None:
    return None
  stats = optax_predict.get_stats(run.opt_state)
  if int(stats.computed_steps) != len(run.losses):
    raise RuntimeError(
      f"{len(run.losses)} losses, {stats.computed_steps} true gradients"
    )
  return int(stats.predicted_steps)


def _in_process(options: dict) -> dict:
  """One run in a process of its own, that nothing was compiled in before."""
  command = [sys.executable, "-m", "benchmarks.clients", "--one"]
  done = subprocess.run(
    [*command, json.dumps(options)], stdout=subprocess.PIPE, text=True
  )
  if done.returncode:
    raise RuntimeError(f"{options} failed; see above")
  # A library may print before.
  return json.loads(done.stdout.splitlines()[-1])


def _described(name: str, is_noisy: bool) -> dict:
  client = _client(name, is_noisy)
  return {
    "library": client.library,
    "version": metadata.version(client.library),
    "loop": client.loop,
    "rule": client.rule,
    "passes_params": client.passes_params,
  }


def measure(name: str, is_small: bool) -> dict:
  """True gradients and seconds to the loss that the loop ends at alone."""
  import numpy as np

  options = {"name": name, "is_noisy": False, "is_small": is_small}
  options |= {"steps": None, "is_accelerated": False}
  alone = _in_process(options)
  ours = _in_process(options | {"is_accelerated": True})
  losses, with_prediction = (
    np.asarray(run["losses"], run["dtype"]) for run in (alone, ours)
  )
  target = counting.final_loss(losses)
  needed = counting.gradients_to(with_prediction, target)
  own = counting.gradients_to(losses, target)
  seconds = [alone["seconds"], None]
  if own != len(losses):
    seconds[0] = _in_process(options | {"steps": own})["seconds"]
  if needed is not None:
    timed = options | {"is_accelerated": True, "steps": needed}
    seconds[1] = _in_process(timed)["seconds"]
  best = float(min(losses.min(), with_prediction.min()))
  gaps = {
    f"{gap:g}": [
      counting.gradients_to(x, counting.gap_loss(losses, best, gap))
      for x in (losses, with_prediction)
    ]
    for gap in _GAPS
  }
  return _described(name, False) | {
    "steps": len(losses),
    "first_loss": float(losses[0]),
    "target": target,
    "final_loss": [float(losses[-1]), float(with_prediction[-1])],
    "gradients": [own, needed],
    "predicted_steps": ours["predicted"],
    "seconds": seconds,
    "gradients_to_gap": gaps,
  }


def measure_noisy(name: str, is_small: bool) -> dict:
  """The last losses of the same minibatches, of some seeds."""
  rows = []
  for seed in _SEEDS:
    options = {"name": name, "is_noisy": True, "is_small": is_small}
    options |= {"steps": None, "seed": seed}
    runs = [_in_process(options | {"is_accelerated": x}) for x in (False, True)]
    # The last tenth: a loss is of one batch only.
    tail = max(1, len(runs[0]["losses"]) // 10)
    rows.append(
      {
        "loss": [statistics.mean(run["losses"][-tail:]) for run in runs],
        "losses": len(runs[1]["losses"]),
        "predicted_steps": runs[1]["predicted"],
        "seconds": [run["seconds"] for run in runs],
      }
    )
  return _described(name, True) | {"seeds": rows}


def main(argv: list[str] | None = None) -> None:
  """Runs all loops, writes the results and fills the page."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.clients")
  parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
  parser.add_argument("--small", action="store_true", help="the tests' sizes")
  parser.add_argument(
    "--clients", nargs="+", default=_CLIENTS, choices=_CLIENTS
  )
  parser.add_argument("--results", type=pathlib.Path, default=_RESULTS)
  parser.add_argument("--page", type=pathlib.Path, default=_PAGE)
  arguments = parser.parse_args(argv)
  if arguments.one:
    print(json.dumps(one_run(arguments.one)))
    return
  noisy = [name for name in _NOISY if name in arguments.clients]
  rows = [
    measure(name, arguments.small) for name in tqdm.tqdm(arguments.clients)
  ]
  noisy_rows = [
    measure_noisy(name, arguments.small) for name in tqdm.tqdm(noisy)
  ]
  content = {
    "made": environment.describe(),
    "is_small": arguments.small,
    "rows": rows,
    "noisy": noisy_rows,
  }
  arguments.results.write_text(json.dumps(content, indent=1) + "\n")
  text = arguments.page.read_text()
  found = tables.all_of(content)
  arguments.page.write_text(scaling_page.fill(text, found))
  print(*found.values(), sep="\n")


if __name__ == "__main__":
  main()
