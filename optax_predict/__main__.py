"""Trains real problems with an optimizer as it is, and accelerated.

The learning rate of the optimizer alone is tuned. Accelerated, it runs at that
rate, at a tenth and at a hundredth of it. Prints a table, writes a plot and JSON.
"""

import argparse
import pathlib
import sys
from typing import Any

_NEEDS = "optax_predict[demo]"
TASK_NAMES = ("heat", "digits", "digits-minibatch")


def main(argv: list[str] | None = None) -> int:
  """Runs the demonstration; returns the exit code."""
  options = _parse(argv)
  try:
    import flax  # noqa: F401
    import matplotlib  # noqa: F401
    import sklearn  # noqa: F401
    import tqdm

    from optax_predict.demo import report
    from optax_predict.demo import tasks
  except ImportError as error:
    print(
      f"error: {error.name} is not installed. Install {_NEEDS}.",
      file=sys.stderr,
    )
    return 2
  options.out.mkdir(parents=True, exist_ok=True)
  summaries: list[dict[str, Any]] = []
  with tqdm.tqdm(unit="run", desc="tuning and training") as bar:
    for name in options.task:
      task = tasks.TASKS[name](options.quick)
      for optimizer in task.optimizers:
        bar.set_description(f"{name}, {optimizer}")
        summaries.append(_compare(task, optimizer, options, bar.update))
  report.write_json(options.out / "results.json", summaries, options.seed)
  report.plot(options.out / "loss.png", summaries)
  print(report.table(summaries))
  print(
    f"\nWrote {options.out / 'results.json'} and {options.out / 'loss.png'}."
  )
  return 0


def _compare(task, name, options, tick):
  """Tunes one optimizer alone, then runs both at that rate and below."""
  from optax_predict.demo import report
  from optax_predict.demo import runs
  from optax_predict.forms.accelerate import accelerate

  optimizer = task.optimizers[name]
  alone = runs.compile_run(task, optimizer)
  accelerated = runs.compile_run(task, lambda rate: accelerate(optimizer(rate)))
  guess = 0.01 if name == "adam" else 0.1
  tuning = runs.tune(alone, task, options.seed, guess, tick)
  best = min(tuning, key=lambda run: runs.quality(task, run)).rate
  seeds = range(options.seed, options.seed + (1 if options.quick else 3))
  found: dict[float, tuple[list[Any], list[Any]]] = {}
  for share in report.SHARES if not task.is_noisy else (1.0,):
    found[share] = ([], [])
    for seed in seeds:
      for run, results in zip((alone, accelerated), found[share], strict=True):
        results.append(run(share * best, seed))
        tick()
  return report.summarize(task, name, len(tuning), found, (alone, accelerated))


def _parse(argv):
  parser = argparse.ArgumentParser(
    prog="python -m optax_predict", description=__doc__
  )
  parser.add_argument(
    "--quick", action="store_true", help="shorter runs, one start each"
  )
  parser.add_argument(
    "--task",
    action="append",
    choices=TASK_NAMES,
    help="only this problem (may be repeated); default: all",
  )
  parser.add_argument(
    "--seed", type=_seed, default=0, help="first seed, 0 or more; default: 0"
  )
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    default=pathlib.Path("optax_predict_out"),
    help="folder for the plot and the JSON; default: %(default)s",
  )
  options = parser.parse_args(argv)
  options.task = list(dict.fromkeys(options.task or TASK_NAMES))
  if options.out.exists() and not options.out.is_dir():
    parser.error(f"argument --out: {options.out} is not a folder")
  return options


def _seed(text):
  try:
    seed = int(text)
  except ValueError:
    seed = -1
  if not 0 <= seed < 2**31 - 3:
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 0")
  return seed


if __name__ == "__main__":
  sys.exit(main())
