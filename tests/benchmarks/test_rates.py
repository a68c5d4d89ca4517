"""The rate left alone: its cells, its arithmetic and its page."""

import json
import math
import pathlib

import pytest

from benchmarks import quotes
from benchmarks.methods import opponents
from benchmarks.methods import running
from benchmarks.methods import searches
from benchmarks.rates import __main__ as main
from benchmarks.rates import cells
from benchmarks.rates import collecting
from benchmarks.rates import figure
from benchmarks.rates import page
from benchmarks.rates import plan
from benchmarks.rates import quoting
from benchmarks.rates import ratios
from benchmarks.savings import cell_files

_ROOT = pathlib.Path(__file__).parents[2]
_RATES = _ROOT / "benchmarks" / "results" / "rates.json"
_SUMMARY = _RATES.parent / "summary.json"


def row(method, rate, tau, evaluations, mode="tuned"):
  return dict(
    method=method,
    mode=mode,
    rate=rate,
    tau=tau,
    evaluations=evaluations,
    median=sorted(evaluations, key=lambda x: math.inf if x is None else x)[1],
    forward_only=0,
  )


def summary_of(rows, **changes):
  task = dict(
    family="hills",
    role="reporting",
    budget=100,
    size=3,
    start=[1.0, 2.0, 1.0],
    best=[0.0, 0.0, 0.0],
    taus=[1e-1, 1e-3, 1e-5],
    rows=rows,
  )
  return {"tasks": {"hill": task | changes}}


ROWS = [
  row("sgd", 0.5, 1e-3, [40, 44, None]),
  row("sgd", 0.9, 1e-1, [3, 4, 5]),
  row("sgd+predict", 9.0, 1e-3, [1, 1, 1]),
  row("scipy_lbfgs", None, 1e-3, [10, 11, 12]),
]


def save_run(bench, method, stage, seed, losses, predicted=0, forward_only=0):
  run = running.Run(0.1, seed, losses, forward_only, predicted)
  cell_files.save(bench.path(method, stage, seed), {"run": run._asdict()})


def test_rates_are_shares_of_the_best_or_stand_for_themselves():
  assert plan.Setting("sgd", True, "1/100").rate(2.0) == pytest.approx(0.02)
  assert plan.Setting("adam", True, "1e-4").rate(2.0) == 1e-4
  assert plan.Setting("adam", True, "1e-4").method == "adam+accelerate"
  assert plan.Setting("adam", False, "1e-4").method == "adam"
  for rates in (plan.SHARES, plan.ABSOLUTE):
    assert max(rates.values()) / min(rates.values()) > 0.999e4
  listed = plan.settings()
  assert len(listed) == len(set(listed)) == 2 * (3 * 8 + 5)
  assert {s.label for s in listed if s.base == "sgd"} == set(plan.SHARES)
  only = plan.settings(("momentum",), ("1", "1e-3"), (True,))
  assert only == [plan.Setting("momentum", True, "1")]
  with pytest.raises(ValueError, match="'1/7' is none of"):
    plan.settings(labels=("1/7",))


def test_what_is_known_of_a_task_is_the_tuned_comparisons():
  found = cells.known(summary_of(ROWS), "hill")
  assert [r["method"] for r in found["rows"]] == ["sgd", "sgd", "scipy_lbfgs"]
  assert cells.best_rate(found, "sgd") == 0.5
  assert cells.best_rate(found, "adam") is None
  assert cells.level(found, 1, 1e-3) == pytest.approx(2e-3)
  with pytest.raises(KeyError, match="benchmarks run --tasks dale"):
    cells.known(summary_of(ROWS), "dale")


def test_the_published_summary_holds_what_is_needed():
  """Of every reporting task and problem, so that nothing is tuned again."""
  summary = json.loads(_SUMMARY.read_text())
  names = main._tasks(main._parser().parse_args([]))
  assert len(names) == 27 + 78
  some = main._tasks(main._parser().parse_args(["--groups", "reporting"]))
  assert some == names[:27]
  for name in names:
    found = cells.known(summary, name)
    for base in opponents.BASES:
      # Without a resolved target there is nothing to count.
      assert (cells.best_rate(found, base) or 0) > 0 or not found["taus"]


def test_targets_stay_what_they_were_when_the_folder_was_begun(tmp_path):
  bench = cells.Bench(tmp_path, "hill", plan.settings(), (0,))
  first = bench.remember(summary_of(ROWS))
  assert bench.remember(summary_of(ROWS, best=[-1.0] * 3)) == first


def test_cells_are_run_once_and_stop_at_the_deepest_target(
  tmp_path, monkeypatch
):
  calls = []

  def run(problem, method, rate, seed, stop_at):
    calls.append((problem, method, rate, seed, stop_at))
    return running.Run(rate, seed, [1.0, math.inf])

  monkeypatch.setattr(running, "run", run)
  monkeypatch.setattr(running, "problem", lambda name: name)
  monkeypatch.setattr(searches, "METHODS", {"scipy_lbfgs": None})
  settings = plan.settings(("sgd", "adam"), ("1/10", "1e-3"), (True,))
  bench = cells.Bench(tmp_path, "hill", settings, (0, 1))
  known = bench.remember(summary_of(ROWS))
  # Adam was never tuned here, and the search is in the summary.
  assert bench.missing(known) == [
    ("sgd+accelerate", "1-10", 0),
    ("sgd+accelerate", "1-10", 1),
  ]
  assert cells.work(tmp_path, "hill", settings, (0, 1)) is None
  assert calls == [
    ("hill", "sgd+accelerate", 0.05, 0, pytest.approx(1e-5)),
    ("hill", "sgd+accelerate", 0.05, 1, pytest.approx(2e-5)),
  ]
  assert not bench.missing(known)
  assert cells.work(tmp_path, "hill", settings, (0, 1)) is None
  assert len(calls) == 2
  saved = cell_files.load(bench.path("sgd+accelerate", "1-10", 0))
  assert saved["run"]["losses"] == [1.0, None]
  assert saved["seconds"] >= 0


def test_a_search_that_does_not_apply_is_a_cell_without_a_run(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(running, "problem", lambda name: name)
  monkeypatch.setattr(searches, "applies", lambda method, problem: False)
  bench = cells.Bench(tmp_path, "hill", [], (0,))
  known = bench.remember(summary_of(ROWS))
  new = [cell[0] for cell in bench.missing(known)]
  assert new == [m for m in searches.METHODS if m != "scipy_lbfgs"]
  assert cells.work(tmp_path, "hill", [], (0,)) is None
  assert not bench.missing(known)
  task = collecting.collect(tmp_path)["hill"]
  assert list(task["counts"]["0.001"]) == ["sgd", "scipy_lbfgs"]


def test_a_failing_cell_is_reported_and_leaves_no_file(tmp_path, monkeypatch):
  def fail(_):
    raise ValueError("on purpose")

  monkeypatch.setattr(running, "problem", fail)
  bench = cells.Bench(tmp_path, "hill", plan.settings(("sgd",)), (0,))
  known = bench.remember(summary_of(ROWS))
  before = bench.missing(known)
  failure = cells.work(tmp_path, "hill", plan.settings(("sgd",)), (0,))
  assert "on purpose" in failure and "hill" in failure
  assert bench.missing(known) == before


def test_counts_from_cells_by_hand(tmp_path):
  bench = cells.Bench(tmp_path, "hill", plan.settings(), cells.SEEDS)
  bench.remember(summary_of(ROWS))
  fast, slow = [1.0, 0.05, 1e-3, 9e-6], [2.0, 0.3, 3e-3]
  save_run(bench, "sgd+accelerate", "1-10", 0, fast, predicted=12)
  save_run(bench, "sgd+accelerate", "1-10", 1, slow, predicted=3)
  save_run(bench, "sgd", "1", 0, [1.0, None, 0.01])
  save_run(bench, "sgd", "1", 2, fast)  # Start 1 is missing: not yet.
  save_run(bench, "ssbroyden", cells.SEARCH, 0, fast, forward_only=7)
  task = collecting.collect(tmp_path)["hill"]
  middle = task["counts"]["0.001"]
  assert middle["sgd+accelerate"] == {"1/10": [3, None]}
  assert middle["sgd"] == {"tuned": [40, 44, None], "1": [None]}
  assert middle["scipy_lbfgs"] == {"search": [10, 11, 12]}
  assert middle["ssbroyden"] == {"search": [3]}
  assert task["counts"]["1e-05"]["sgd+accelerate"] == {"1/10": [4, None]}
  assert task["counts"]["0.1"]["sgd+accelerate"] == {"1/10": [2, 3]}
  assert task["steps"]["sgd+accelerate"] == {"1/10": (4 + 2) / 2}
  assert task["below"] == 0
  assert task["forward_only"] == {"scipy_lbfgs": 0, "ssbroyden": 7}
  assert task["best_rates"] == {"sgd": 0.5, "momentum": None, "adam": None}


def test_a_loss_below_the_best_known_is_noted(tmp_path):
  bench = cells.Bench(tmp_path, "hill", plan.settings(), cells.SEEDS)
  known = summary_of(ROWS, best=[0.5] * 3, start=[1.0, 4.5, 1.0])
  bench.remember(known)
  save_run(bench, "sgd", "1", 0, [1.0, 0.7, None])
  save_run(bench, "sgd", "1", 1, [4.5, 0.1])
  assert collecting.collect(tmp_path)["hill"]["below"] == 0.1


def test_nothing_is_run_without_a_target(tmp_path):
  bench = cells.Bench(tmp_path, "hill", plan.settings(), (0,))
  assert bench.planned(bench.remember(summary_of([], taus=[]))) == []


def found_of(*tasks):
  """Tasks from ``{(method, label): counts}``, to 1e-3 and to 1e-5."""
  made = dict(
    date="2020-01-02",
    device="abacus",
    optax_predict="0",
    versions={"jax": "1", "optax": "2"},
  )
  listed = {}
  for i, by_column in enumerate(tasks):
    counts = {}
    for (method, label), values in by_column.items():
      counts.setdefault(method, {})[label] = values
    listed[f"t{i}"] = dict(
      family="hills",
      role="reporting",
      budget=100,
      size=3,
      taus=[1e-3, 1e-5],
      tried={"sgd": 13},
      counts={"0.001": counts, "1e-05": counts},
      steps={"adam+accelerate": {"1e-3": 20.0}},
      forward_only={},
      below=0.0,
    )
  return {"made": made, "tasks": listed}


TUNED, LBFGS = ("adam", "tuned"), ("scipy_lbfgs", "search")
OURS = ("adam+accelerate", "1e-3")
FOUND = found_of(
  {TUNED: [60, 50, 70], LBFGS: [10, 10, 10], OURS: [20]},
  {TUNED: [None, None, 90], LBFGS: [10, 20, 30], OURS: [25, 30, None]},
  {TUNED: [80, 80, 80], LBFGS: [None] * 3, OURS: [40, 40, 40]},
  {TUNED: [80, 80, 80], LBFGS: [20, 20, 20], OURS: [None]},
  {TUNED: [None] * 3, LBFGS: [None] * 3, OURS: [None] * 3},
  {TUNED: [50, 50, 50]},
)


def test_ratios_are_over_the_starts_that_both_have():
  ours, tuned = ratios.predicting("adam", "1e-3"), ratios.tuned("adam")
  compared = ratios.compare(FOUND, ours, tuned, 1e-3, "reporting")
  assert [c.task for c in compared] == ["t0", "t1", "t2", "t3"]
  # 20 over the first start's 60; 30 over the budget; 40 over 80; a miss.
  assert [c.ratio for c in compared] == [1 / 3, 0.3, 0.5, math.inf]
  assert ratios.compare(FOUND, ours, tuned, 1e-3, "cutest") == []
  assert ratios.compare(FOUND, ours, tuned, 1e-1, "reporting") == []


def test_a_tuned_base_is_compared_at_its_best_rate_and_at_the_best_of_all():
  at_best, slow = ("adam+accelerate", "1"), ("adam+accelerate", "1/10")
  momentum, theirs = ("momentum+accelerate", "1"), ("momentum", "tuned")
  found = found_of(
    {TUNED: [50] * 3, at_best: [60] * 3, slow: [10] * 3},
    {TUNED: [50] * 3, at_best: [20] * 3, slow: [None] * 3},
    {TUNED: [50] * 3, slow: [55] * 3},
    {theirs: [40] * 3, momentum: [30] * 3, TUNED: [None] * 3},
  )
  pooled = ratios.pool(found, 1e-3, "reporting")
  assert [c.ratio for c in pooled.at_best] == [0.75, 1.2, 0.4]
  assert [c.ratio for c in pooled.at_own] == [0.75, 0.2, 0.4, 1.1]
  assert [ratios.count_harm(listed) for listed in pooled] == [1, 1]
  line = (
    "over the tuned base**, to 1e-3: 0.75 at the base's best rate (1 of 3 above"
    " 1.05), 0.57 at the best of these rates for each task (1 of 4 above 1.05);"
  )
  assert line in page.text(found)
  texts = quoting.values(found)
  key = "rates.reporting.all"
  quoted = [texts[f"{key}.best.{x}"] for x in ("of_tuned", "above", "pairs")]
  assert quoted == ["0.75", "1", "3"]
  assert texts[f"{key}.own.of_tuned.1e_5"] == "0.57"


def test_geometric_means_say_what_they_leave_out():
  ours, other = ratios.predicting("adam", "1e-3"), ratios.search("scipy_lbfgs")
  compared = ratios.compare(FOUND, ours, other, 1e-3, "reporting")
  mean = ratios.mean(FOUND, compared)
  # t0: 20/10, t1: 30/20, t2: 40 alone, t3: 20 of theirs alone.
  assert mean.solved == pytest.approx((2 * 1.5) ** 0.5)
  assert mean.budget == pytest.approx((2 * 1.5 * 0.4 * 5) ** 0.25)
  assert mean[2:] == (2, 1, 1)
  nothing = ratios.mean(FOUND, [])
  assert math.isnan(nothing.solved) and math.isnan(nothing.budget)
  assert page.mean_text(nothing) == ""
  assert page.mean_text(mean) == "**1.73** (2; +1, -1; 1.57)"


def test_solved_counts_the_tasks_that_were_run():
  assert ratios.solved(FOUND, ratios.Column(*OURS), 1e-3, "reporting") == (3, 5)
  assert ratios.solved(FOUND, ratios.tuned("adam"), 1e-3, "reporting") == (4, 6)
  assert ratios.solved(FOUND, ratios.tuned("sgd"), 1e-3, "reporting") == (0, 0)


def test_curves_are_over_the_tasks_that_ran_everything():
  columns = [ratios.Column(*OURS), ratios.search("scipy_lbfgs")]
  ours, theirs = ratios.curves(FOUND, columns, 1e-3, "reporting")
  assert ours == [20, 30, 40, math.inf, math.inf]
  assert theirs == [10, 20, 20, math.inf, math.inf]
  assert [ratios.quantile(ours, q) for q in (0, 0.25, 0.5, 0.75, 1)] == [
    20,
    30,
    40,
    math.inf,
    math.inf,
  ]
  assert ratios.curves(FOUND, columns, 1e-3, "cutest") == []


def test_the_page_shows_what_its_json_holds():
  text = page.text(FOUND)
  assert "6 tasks; medians over 1 to 3 starts each" in text
  assert "| 1e-3 | **0.42** | **0.42** | miss (t3) | 1 | 3 of 5 | 20 |" in text
  assert "| adam, 1e-3 |  | **1.73** (2; +1, -1; 1.57) |" in text
  assert "**1.73** (2; +1, -1; 1.57) with adam at 1e-3" in text
  assert "Adam with prediction at 1e-3 3 of 5" in text
  assert "**Adam at 1e-3**, to 1e-3: 0.42 times" in text
  assert "was of 13 runs in the median" in text
  assert "abacus" in text
  assert "went below" not in text
  lower = json.loads(json.dumps(FOUND))
  lower["tasks"]["t3"]["below"] = 2e-4
  assert "target of 1e-3, on t3: " in page.text(lower)
  assert "nan" not in text.lower()


def test_the_figure_shows_what_was_run(tmp_path, monkeypatch):
  drawn, close = [], figure.plt.close
  monkeypatch.setattr(figure.plt, "close", drawn.append)
  everything = {LBFGS: [9] * 3}
  for base in opponents.BASES:
    for i, label in enumerate(plan.labels_of(base)):
      everything[base, label] = [60 + i] * 3
      everything[f"{base}+accelerate", label] = [20 + i, None, None]
  for found in (
    found_of(everything, everything),
    FOUND,
    found_of({TUNED: [3]}),
  ):
    figure.draw(found, tmp_path / "rates.png")
  assert (tmp_path / "rates.png").stat().st_size > 5_000
  lines = [[one.get_lines() for one in each.axes] for each in drawn]
  assert [[len(x) for x in each] for each in lines] == [
    [3, 3, 3, 3],
    [0, 0, 0, 2],
    [0, 0, 0, 0],
  ]
  # L-BFGS-B's level, the base alone, and prediction: misses at the top.
  level, alone, ours = (line.get_ydata() for line in lines[0][0])
  assert list(level) == [9, 9]
  assert list(alone) == [60 + i for i in range(len(plan.SHARES))]
  assert set(ours) == {125.0}
  assert list(lines[1][3][1].get_xdata()) == [1e-3]
  assert list(lines[1][3][1].get_ydata()) == [40]
  for each in drawn:
    close(each)


def test_quotes_are_the_pages_numbers():
  found = quoting.values(FOUND)
  key = "rates.reporting.adam.1e_3"
  assert found[f"{key}.of_tuned"] == "0.42"
  assert found[f"{key}.of_tuned.1e_5"] == "0.42"
  assert found[f"{key}.of_scipy_lbfgs"] == "1.73"
  assert found[f"{key}.of_scipy_lbfgs.budget"] == "1.57"
  assert found[f"{key}.solved"] == "3"
  assert found["rates.reporting.scipy_lbfgs.solved"] == "3"
  assert found["rates.reporting.tasks"] == "6"
  assert found["rates.cutest.tasks"] == "0"
  text = f"<!--result:{key}.of_tuned-->?<!--/result-->"
  assert "-->0.42<!--" in quotes.fill(text, found)
  tokens = [quoting.token(label) for label in plan.LABELS]
  assert len(set(tokens)) == len(tokens)
  assert {"1e_4", "over_100", "best", "times_3"} <= set(tokens)


def test_all_bases_are_pooled_at_a_share_of_the_best_rate():
  best, tenth = [20] * 3, [26] * 3
  columns = {}
  for base in ("sgd", "adam"):
    columns[f"{base}+accelerate", "1"] = best
    columns[f"{base}+accelerate", "1/10"] = tenth
  columns["momentum+accelerate", "1"] = best
  columns["momentum+accelerate", "1/10"] = best
  found = quoting.values(found_of(columns))
  assert found["rates.reporting.all.over_10.of_own_best"] == "1.30"
  assert found["rates.reporting.momentum.over_10.of_own_best"] == "1.00"


def test_results_in_a_folder_are_quoted_only_where_they_are(tmp_path):
  (tmp_path / "summary.json").write_text('{"tasks": {}}')
  assert not any(k.startswith("rates.") for k in quotes.published(tmp_path))
  (tmp_path / "rates.json").write_text(json.dumps(FOUND))
  found = quotes.published(tmp_path)
  assert found["rates.reporting.adam.1e_3.of_tuned"] == "0.42"


def test_the_command_runs_what_is_missing_and_writes_the_page(
  tmp_path, monkeypatch, capsys
):
  from benchmarks.savings import runner

  planned = []

  def pooled(todo, work, jobs):
    planned.append((todo, jobs))
    for task in todo:
      for path in todo[task]:
        run = running.Run(0.1, 0, [1.0], 0, 0)
        cell_files.save(path, {"run": run._asdict()})
    return 0

  monkeypatch.setattr(runner, "pooled", pooled)
  command = ["--tasks", "phase_*", "--starts", "1", "--rates", "1/10", "1e-3"]
  command += ["--jobs", "1", "--results", str(tmp_path)]
  assert main.main([*command, "--only", "with"]) == 0
  todo, jobs = planned[0]
  assert list(todo) == ["phase_retrieval"] and jobs == 1
  names = {
    path.name.removesuffix(".json.gz") for path in todo["phase_retrieval"]
  }
  assert {n for n in names if "+" in n} == {
    "sgd+accelerate.1-10.0",
    "momentum+accelerate.1-10.0",
    "adam+accelerate.1-10.0",
    "adam+accelerate.1e-3.0",
  }
  assert (tmp_path / "rates.md").exists()
  assert (tmp_path / page.FIGURE).exists()
  assert main.main(command) == 0
  todo, _ = planned[1]
  assert not any("+" in path.name for path in todo["phase_retrieval"])
  assert len(todo["phase_retrieval"]) == 4
  with pytest.raises(SystemExit, match="nothing matches"):
    main.main(["--tasks", "no_such_task", "--results", str(tmp_path)])
  with pytest.raises(SystemExit, match="no cells"):
    main.main(["report", "--results", str(tmp_path / "another")])
  capsys.readouterr()


def test_the_published_page_is_that_of_the_json():
  found = json.loads(_RATES.read_text())
  assert (_ROOT / "docs" / "rates.md").read_text() == page.text(found)
