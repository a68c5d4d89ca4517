"""Several processes: the same parameters in all, and a clean end if one dies."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

FILE = pathlib.Path(__file__).parents[1] / "examples" / "multihost.py"
STEPS = 12


@pytest.fixture(name="example", scope="module")
def _example():
  spec = importlib.util.spec_from_file_location("multihost", FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(name="workers")
def _workers(example):
  """Two processes with more to do than any test waits for."""
  workers = example.start(2, ["--steps", "20000"])
  yield workers
  for worker in workers:
    worker.process.kill()
    worker.process.wait()
    worker.output.close()


def await_output(example, worker, text, seconds=240):
  deadline = time.monotonic() + seconds
  while text not in example.printed(worker):
    assert worker.process.poll() is None, example.printed(worker)
    assert time.monotonic() < deadline, example.printed(worker)
    time.sleep(0.05)


def assert_all_ended(workers):
  assert all(w.process.poll() is not None for w in workers)


def test_two_processes_hold_the_same_bits(example):
  done = subprocess.run(
    [sys.executable, FILE, "--steps", str(STEPS)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  first, second = map(json.loads, done.stdout.splitlines())
  assert (first.pop("process"), second.pop("process")) == (0, 1)
  assert first == second
  assert first["steps"] > 1.5 * first["true_gradients"] == 1.5 * STEPS
  # One process with all of the data ends in the same place. Sums in another order may
  # give a window another length: a step more is one percent of the loss.
  alone = example.train(STEPS)
  np.testing.assert_allclose(alone["loss"], first["loss"], rtol=0.05)


def test_a_process_that_dies_ends_the_others_and_is_named(example, workers):
  await_output(example, workers[1], "first loss")
  workers[1].process.kill()
  began = time.monotonic()
  with pytest.raises(RuntimeError, match=r"process \d ended with code -\d+"):
    example.wait(workers, 240)
  # At once, not when the time is up.
  assert time.monotonic() - began < 120
  assert_all_ended(workers)


def test_a_run_that_takes_too_long_is_stopped(example, workers):
  with pytest.raises(TimeoutError, match=r"not done after 0\.2 s"):
    example.wait(workers, 0.2)
  assert_all_ended(workers)


def test_a_process_that_meets_nobody_says_so():
  arguments = ["--coordinator", "127.0.0.1:9", "--process", "1"]
  arguments += ["--connect-timeout", "2"]
  alone = subprocess.run(
    [sys.executable, FILE, *arguments], capture_output=True, text=True
  )
  assert alone.returncode != 0
  assert "DEADLINE_EXCEEDED" in alone.stderr
