"""The demonstration's command line."""

import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from optax_predict import __main__ as cli
from optax_predict.demo import report
from optax_predict.demo import runs
from optax_predict.demo import tasks


def run(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "optax_predict", *arguments],
    capture_output=True,
    text=True,
  )


def test_help_names_every_option():
  done = run("--help")
  assert done.returncode == 0
  for option in ("--quick", "--task", "--seed", "--out"):
    assert option in done.stdout


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--task", "cheese"], "argument --task: invalid choice: 'cheese'"),
    (["--seed", "-1"], "'-1' is not a whole number >= 0"),
    (["--seed", "x"], "'x' is not a whole number >= 0"),
    (["--out", str(pathlib.Path(__file__))], "is not a folder"),
    (["--nonsense"], "unrecognized arguments: --nonsense"),
  ],
)
def test_wrong_values_get_one_line_and_code_2(arguments, message, capsys):
  with pytest.raises(SystemExit) as stop:
    cli.main(arguments)
  assert stop.value.code == 2
  errors = [
    line
    for line in capsys.readouterr().err.splitlines()
    if line.startswith("python -m optax_predict: error:")
  ]
  assert len(errors) == 1 and message in errors[0]


def test_gradients_to_target():
  losses = np.array([4.0, 2.0, np.nan, 3.0, 1.0])
  np.testing.assert_array_equal(runs.best_so_far(losses), [4, 2, 2, 2, 1])
  assert runs.gradients_to(losses, 2.0) == 2
  assert runs.gradients_to(losses, 1.5) == 5
  assert runs.gradients_to(losses, 0.5) == math.inf


def test_choices_are_the_tasks():
  assert set(cli.TASK_NAMES) == set(tasks.TASKS)


def test_table_and_json_of_a_target_never_reached(tmp_path):
  task = tasks.Task("hill", None, None, None, None, {}, 3, False)

  def result(losses):
    return runs.Run(0.1, 0, np.array(losses), 0, losses[-1], 3.0)

  def run(rate, seed, steps):
    return runs.Run(rate, seed, np.ones(steps), 0, 1.0, seconds=0.1 * steps)

  alone, better = [result([4.0, 2.0, 1.0])], [result([4.0, 1.0, 1.0])]
  worse = [result([4.0, 3.0, np.inf])]
  found = {1.0: (alone, worse), 0.1: (alone, better)}
  summary = report.summarize(task, "adam", 9, found, (run, run))
  line = report.table([summary]).splitlines()[4]
  assert line.split() == [
    "hill",
    "adam",
    "9",
    "0.1",
    "1e-02",
    "3",
    "-",
    "2",
    "-",
  ]
  found = {1.0: (alone, better)}
  better_first = report.summarize(task, "adam", 9, found, (run, run))
  line = report.table([better_first]).splitlines()[4]
  assert line.split() == ["hill", "adam", "9", "0.1", "1e-02", "3", "2", "0.67"]
  report.write_json(tmp_path / "r.json", [summary], seed=0)
  stored = json.loads((tmp_path / "r.json").read_text())
  target = stored["results"][0]["targets"][0]
  assert target["gradients_alone"] == 3 and target["gradients"] == [None, 2]


def test_noisy_runs_are_timed_as_often_as_others():
  task = tasks.Task("fog", None, None, None, None, {}, 3, True)
  result = runs.Run(0.1, 0, np.array([4.0, 2.0, 1.0]), 0, 1.0, seconds=9.0)
  seconds = {"alone": iter([5, 4, 2, 3, 4]), "ours": iter([6, 3, 5, 5, 4])}

  def timed(name):
    return lambda rate, seed, steps: result._replace(
      seconds=float(next(seconds[name]))
    )

  found = {1.0: ([result], [result])}
  summary = report.summarize(
    task, "adam", 9, found, (timed("alone"), timed("ours"))
  )
  assert (summary["seconds_alone"], summary["seconds"]) == (2.0, 3.0)
  line = report.table([summary]).splitlines()[2]
  assert line.split() == ["fog", "adam", "0.1", "1", "1", "0.0%", "1.50"]


def test_readme_shows_the_stored_table():
  root = pathlib.Path(__file__).parent.parent
  stored = json.loads((root / "docs" / "demo.json").read_text())
  assert report.table(stored["results"]) in (root / "README.md").read_text()
