"""The whole pipeline on one small task, killed and resumed."""

import json

import pytest

from benchmarks import __main__ as main
from benchmarks.methods import running
from benchmarks.savings import analysis
from benchmarks.savings import cell_files
from benchmarks.savings import cells
from benchmarks.savings import runner
from benchmarks.savings import summary

_TASK = "rosenbrock_50"
_METHODS = ["sgd", "sgd+rate", "sgd+stale", "scipy_lbfgs"]


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("results")
  assert runner.work(folder / "cells", _TASK, _METHODS) is None
  return folder


def test_every_planned_cell_is_a_file(folder):
  assert not runner.missing(folder / "cells", _TASK, _METHODS)


def test_a_killed_run_resumes_with_what_is_missing(folder, monkeypatch):
  lost = cell_files.path(folder / "cells", _TASK, "sgd+rate", "starts")
  before = cell_files.load(lost)
  lost.unlink()
  others = {p: p.stat().st_mtime_ns for p in folder.rglob("*.gz")}
  calls = []
  run = running.run
  monkeypatch.setattr(
    running, "run", lambda *args: calls.append(args[1]) or run(*args)
  )
  assert runner.work(folder / "cells", _TASK, _METHODS) is None
  assert set(calls) == {"sgd+rate"}
  assert {p: p.stat().st_mtime_ns for p in others} == others
  assert cell_files.load(lost) == before


def test_a_failing_cell_is_reported_and_leaves_no_file(tmp_path, monkeypatch):
  def fail(*_):
    raise ValueError("on purpose")

  monkeypatch.setattr(cells.line_search, "reference", fail)
  assert "on purpose" in runner.work(tmp_path, _TASK, ["sgd"])
  assert not list(tmp_path.rglob("*.gz"))


def test_the_bases_come_along():
  assert cells.with_bases(["adam+predict", "optimistic"]) == [
    "sgd",
    "adam",
    "optimistic",
    "adam+predict",
  ]


def test_summary_holds_medians_over_starts(folder):
  found = summary.collect(folder / "cells")["tasks"][_TASK]
  assert found["role"] == "tuning"
  row = analysis.row(found, "sgd", "tuned", 1e-1)
  counts = sorted(row["evaluations"])
  assert len(counts) == 3
  assert row["median"] == counts[1]
  assert analysis.row(found, "sgd+rate", "drop_in", 1e-1)["rate"] == (
    pytest.approx(5 * row["rate"])
  )
  assert all(
    best <= start
    for best, start in zip(found["best"], found["start"], strict=True)
  )


def test_report_and_figures_are_written(folder):
  assert main.main(["report", "--results", str(folder)]) == 0
  text = (folder / "RESULTS.md").read_text()
  assert _TASK in text
  assert "nan" not in text.lower()
  assert (folder / "evaluations.png").exists()
  made = json.loads((folder / "summary.json").read_text())["made"]
  assert made["versions"]["jax"]


def test_a_report_of_nothing_leaves_the_summary(capsys, tmp_path):
  kept = tmp_path / "summary.json"
  kept.write_text("{}")
  assert main.main(["report", "--results", str(tmp_path)]) == 1
  assert kept.read_text() == "{}"
  assert "No results in" in capsys.readouterr().err


def test_list_names_tasks_and_methods(capsys, tmp_path):
  main.main(["list", "--tasks", "rosen*", "--results", str(tmp_path)])
  out = capsys.readouterr().out
  assert _TASK in out
  assert "scipy_lbfgs" in out
