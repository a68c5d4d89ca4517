"""RESULTS.md from the summary; every number in it is computed here."""

import itertools
import math
import pathlib
import statistics

from benchmarks import markdown
from benchmarks.methods import opponents
from benchmarks.methods import targets
from benchmarks.savings import analysis
import optax_predict

GROUPS = {
  "reporting": "Reporting tasks",
  "cutest": "CUTEst",
  "tuning": "Tuning tasks (defaults were chosen by looking at these)",
}
_MIDDLE = targets.TAUS[1]
_HEADLINE = ("reporting", "cutest")
# Families of neural networks trained on all their data at once.
_NETWORKS = ("networks", "lora")
_MODE_NAMES = {"drop_in": "at the base's best rate", "tuned": "at its own"}


def number(x: float | None) -> str:
  """Two decimals; a target that was not reached is a miss."""
  if x is None or math.isinf(x):
    return "miss"
  return "" if math.isnan(x) else f"{x:.2f}"


def count(x: float | None) -> str:
  """A whole number, or a miss."""
  return "miss" if x is None else f"{x:.0f}"


def accuracy(tau: float) -> str:
  """As in 1e-3."""
  return f"{tau:.0e}".replace("e-0", "e-")


def _against_base(summary: dict, groups: tuple[str, ...]) -> str:
  rows = []
  for base in analysis.BASES:
    for mode in analysis.MODES:
      for tau in targets.TAUS:
        found = analysis.against_base(summary, base, mode, tau, groups)
        if not found:
          continue
        worst = analysis.worst(found)
        ratios = [c.ratio for c in found]
        rows.append(
          [
            base,
            _MODE_NAMES[mode],
            accuracy(tau),
            f"**{number(statistics.median(ratios))}**",
            number(min(ratios)),
            f"{number(worst.ratio)} ({worst.task})",
            str(sum(r < 1 - analysis.NOTHING for r in ratios)),
            str(sum(r > analysis.HARM for r in ratios)),
            str(len(ratios)),
          ]
        )
  head = ["base", "rate", "target", "median", "best", "worst", "saves"]
  return markdown.table([*head, "harms", "tasks"], rows)


def _against_line_search(summary: dict) -> str:
  rows = []
  keep = lambda name, task: analysis.group(name, task) in _HEADLINE  # noqa: E731
  methods = [f"{base}+predict" for base in analysis.BASES]
  for method in [*methods, *analysis.BASES]:
    for other in opponents.LINE_SEARCH:
      for tau in targets.TAUS:
        found = analysis.compare(
          summary, (method, "tuned"), (other, "tuned"), tau, keep
        )
        if found:
          ahead = sum(c.ratio < 1 for c in found)
          rows.append(
            [
              method,
              other,
              accuracy(tau),
              f"**{number(analysis.median(found))}**",
              f"{ahead} of {len(found)}",
            ]
          )
  return markdown.table(
    ["method", "against", "target", "median", "ahead in"], rows
  )


def _forward_only(summary: dict) -> str:
  """What searches evaluated besides; nothing where nothing was."""
  listed: dict[str, list[int]] = {}
  for name, task in summary["tasks"].items():
    if analysis.group(name, task) in _HEADLINE:
      by_method = {r["method"]: r["forward_only"] for r in task["rows"]}
      for method, number_of in by_method.items():
        listed.setdefault(method, []).append(number_of)
  parts = [
    f"{method} {statistics.median(found):.0f}"
    for method, found in listed.items()
    if any(found)
  ]
  if not parts:
    return ""
  return (
    "Losses evaluated without a gradient, which is in no count above, in whole"
    f" runs (medians over tasks): {', '.join(parts)}.\n"
  )


def _solved(summary: dict, groups: tuple[str, ...]) -> str:
  rows = []
  for method in opponents.names():
    for mode in analysis.modes_of(method):
      shares = [
        analysis.solved(summary, method, mode, tau, groups)
        for tau in targets.TAUS
      ]
      if any(tried for _, tried in shares):
        cells = [f"{done} of {tried}" for done, tried in shares]
        rows.append([method, _MODE_NAMES[mode], *cells])
  return markdown.table(["method", "rate", *map(accuracy, targets.TAUS)], rows)


def _lags(summary: dict) -> str:
  rows = []
  for key in _HEADLINE:
    for base, mode in itertools.product(analysis.BASES, analysis.MODES):
      found = [
        analysis.lag(summary, base, mode, tau, (key,)) for tau in targets.TAUS
      ]
      cells = [
        f"{x.tasks} at {x.at} ({x.budgets} numbers)" if x.tasks else "never"
        for x in found
      ]
      rows.append([GROUPS[key], base, _MODE_NAMES[mode], *cells])
  return markdown.table(
    ["tasks", "base", "rate", *map(accuracy, targets.TAUS)], rows
  )


def _named(summary: dict, wanted, text) -> str:
  """Lists tasks whose ratio is `wanted`, per base, rate and target."""
  lines = []
  for base in analysis.BASES:
    for mode in analysis.MODES:
      for tau in targets.TAUS:
        found = analysis.against_base(summary, base, mode, tau, tuple(GROUPS))
        hits = sorted((c for c in found if wanted(c.ratio)), key=text)
        if hits:
          names = ", ".join(f"{c.task} {number(c.ratio)}" for c in hits)
          where = f"{base}, {_MODE_NAMES[mode]}, {accuracy(tau)}"
          lines.append(f"- {where} ({len(hits)} of {len(found)}): {names}")
  return "\n".join(lines or ["None."]) + "\n"


def _by_task(summary: dict, wanted: str) -> str:
  columns = [(b, "tuned") for b in analysis.BASES]
  shown = []
  for base, mode in columns:
    shown += [(base, mode), (f"{base}+predict", "drop_in")]
    shown += [(f"{base}+predict", "tuned")]
  shown += [("nesterov", "tuned"), ("optimistic", "tuned")]
  run = {r["method"] for t in summary["tasks"].values() for r in t["rows"]}
  shown += [(m, "tuned") for m in opponents.LINE_SEARCH if m in run]
  rows = []
  for name, task in summary["tasks"].items():
    if analysis.group(name, task) == wanted and _MIDDLE in task["taus"]:
      found = [analysis.row(task, *column, _MIDDLE) for column in shown]
      cells = [count(r["median"]) if r else "" for r in found]
      rows.append([name, str(task["size"]), *cells])
  short = {"drop_in": " (base's rate)", "tuned": ""}
  head = [method.replace("+predict", "+p") + short[m] for method, m in shown]
  return markdown.table(["task", "variables", *head], rows)


def _noisy(summary: dict) -> str:
  rows = []
  for name, task in summary["noisy"].items():
    for base in analysis.BASES:
      for mode in analysis.MODES:
        found = analysis.noisy(task, base, mode)
        if found is None:
          continue
        interval = f"[{found.low:.3f}, {found.high:.3f}]"
        harm = " **harm**" if found.loss_ratio > analysis.NOISY_HARM else ""
        rows.append(
          [
            name.removeprefix("noisy/"),
            base,
            _MODE_NAMES[mode],
            f"{found.share[0]:.0%} / {found.share[-1]:.0%}",
            " / ".join(map(number, (found.saving[0], found.saving[-1]))),
            f"{found.loss_ratio:.3f} {interval}{harm}",
          ]
        )
  head = ["task@batch", "base", "rate", "predicted", "gradients to its loss"]
  return markdown.table([*head, "final loss over the base's"], rows)


def _headline(summary: dict) -> str:
  """The claim in plain words, from the same numbers as the tables."""
  lines = []
  for group in _HEADLINE:
    parts = [
      *(_headline_base(summary, base, group) for base in analysis.BASES),
      _headline_all(summary, group),
      _headline_networks(summary, group),
      _headline_line_search(summary, group),
      _headline_solved(summary, group),
      _headline_harm(summary, group),
    ]
    if any(parts):
      lines += [f"### {GROUPS[group]}, in short\n", *filter(None, parts), ""]
  return "\n".join(lines) + "\n"


def _headline_base(summary: dict, base: str, group: str) -> str:
  parts = []
  for mode in analysis.MODES:
    found = analysis.against_base(summary, base, mode, _MIDDLE, (group,))
    if found:
      worst, median = analysis.worst(found), number(analysis.median(found))
      parts.append(
        f"median {median} {_MODE_NAMES[mode]} (worst {number(worst.ratio)},"
        f" {worst.task}; {len(found)} tasks)"
      )
  return f"- **{base}**: {'; '.join(parts)}." if parts else ""


def _headline_all(summary: dict, group: str) -> str:
  parts = [
    f"median {number(analysis.median(found))} {_MODE_NAMES[mode]}"
    f" ({len(found)} pairs of a task and an optimizer)"
    for mode in analysis.MODES
    if (found := analysis.pooled(summary, mode, _MIDDLE, (group,)))
  ]
  return f"- **All three**: {'; '.join(parts)}." if parts else ""


def _headline_networks(summary: dict, group: str) -> str:
  parts, names = [], set()
  for mode in analysis.MODES:
    found = [
      c
      for c in analysis.pooled(summary, mode, _MIDDLE, (group,))
      if summary["tasks"][c.task]["family"] in _NETWORKS
    ]
    if found:
      names |= {c.task for c in found}
      median = number(analysis.median(found))
      parts.append(f"median {median} {_MODE_NAMES[mode]} ({len(found)} pairs)")
  if not parts:
    return ""
  return (
    f"- **Networks on all their data** ({', '.join(sorted(names))}):"
    f" {'; '.join(parts)}."
  )


def _headline_line_search(summary: dict, group: str) -> str:
  keep = lambda name, task: analysis.group(name, task) == group  # noqa: E731
  parts = []
  for base in analysis.BASES:
    ours, other = (f"{base}+predict", "tuned"), ("scipy_lbfgs", "tuned")
    found = analysis.compare(summary, ours, other, _MIDDLE, keep)
    if found:
      ahead = sum(c.ratio < 1 for c in found)
      median = number(analysis.median(found))
      parts.append(f"{median} with {base} (ahead in {ahead} of {len(found)})")
  return f"- **L-BFGS-B's evaluations**: {', '.join(parts)}." if parts else ""


def _headline_solved(summary: dict, group: str) -> str:
  parts, tried = [], 0
  pairs = [(base, f"{base}+predict") for base in analysis.BASES]
  for method in [*itertools.chain(*pairs), *opponents.LINE_SEARCH]:
    done, most = analysis.solved(summary, method, "tuned", _MIDDLE, (group,))
    if most:
      parts.append(f"{method} {done}")
      tried = max(tried, most)
  return f"- **Solved**, of {tried}: {', '.join(parts)}." if parts else ""


def _headline_harm(summary: dict, group: str) -> str:
  parts = []
  for mode in analysis.MODES:
    found = analysis.pooled(summary, mode, _MIDDLE, (group,))
    ratios = [c.ratio for c in found]
    if ratios:
      harmed = sum(r > analysis.HARM for r in ratios)
      still = sum(abs(r - 1) <= analysis.NOTHING for r in ratios)
      parts.append(
        f"{_MODE_NAMES[mode]}, harm in {harmed} and nothing in {still} of"
        f" {len(ratios)} pairs of a task and an optimizer"
      )
  if not parts:
    return ""
  return f"- **Harm**, above {analysis.HARM}: {'; '.join(parts)}. Named below."


def _figures(folder: pathlib.Path, prefix: str) -> str:
  found = sorted(p for p in folder.glob("*.png"))
  return "\n".join(f"![{p.stem}]({prefix}{p.name})" for p in found) + "\n"


def _made(summary: dict) -> str:
  made = summary["made"]
  versions = ", ".join(f"{k} {v}" for k, v in made["versions"].items() if v)
  return (
    f"Made {made['date']} on {made['device']} ({made['cores']} cores), Python"
    f" {made['python']}, optax_predict {made['optax_predict']}; {versions}."
    f"{_older(made['optax_predict'])}\n"
  )


def _older(version: str) -> str:
  """What to say of numbers that another version made."""
  if version == optax_predict.__version__:
    return ""
  return (
    f" This is version {optax_predict.__version__}: what it needs, at the tuned rates"
    ' too, is under "The rate left alone" (docs/rates.md). Tables of time name their'
    " own version."
  )


def text(folder: pathlib.Path, summary: dict, prefix: str = "") -> str:
  """RESULTS.md as a string.

  Args:
    folder: holds the figures and the JSON of time measurements.
    summary: what `summary.collect` made.
    prefix: the way from RESULTS.md to the folder, with a slash at its end.
  """
  from benchmarks.cost import tables

  near = lambda r: abs(r - 1) <= analysis.NOTHING  # noqa: E731
  parts = [
    "# Results\n",
    "Written by `python -m benchmarks report`; do not edit.\n",
    _made(summary),
    "## In short\n",
    "True gradients to within 1e-3 of the best known loss (Moré and Wild),"
    " relative to the same optimizer, tuned and without prediction. Below 1"
    " saves; a miss is a target that only the base reached. Medians over"
    " three starts and over tasks.\n",
    _headline(summary),
    "## Against the tuned base optimizer\n",
  ]
  for key, title in GROUPS.items():
    parts += [f"### {title}\n", _against_base(summary, (key,))]
  parts += [
    "## Against methods that search their own step\n",
    "Every evaluation of a line search counts.\n",
    _against_line_search(summary),
    *filter(None, [_forward_only(summary)]),
    "## Share solved\n",
    "Reporting and CUTEst tasks together; float32 cannot resolve every"
    " target, and those it cannot are left out for all methods.\n",
    _solved(summary, _HEADLINE),
    "### Where fewer are solved than without prediction\n",
    "How many fewer tasks are solved by a number of true gradients than by the"
    " tuned base, net of those that only prediction has solved: at most, the"
    " first number at which it is so many, and at how many numbers it is any.\n",
    _lags(summary),
    "## Where prediction did harm\n",
    f"More than {analysis.HARM} true gradients of the base, all tasks.\n",
    _named(summary, lambda r: r > analysis.HARM, lambda c: -c.ratio),
    "## Where prediction did nothing\n",
    _named(summary, near, lambda c: c.task),
    "## Under minibatch noise\n",
    "Shares of predicted steps and true gradients to the base's loss after a"
    " quarter and at the end of the budget; five seeds, paired; a ratio of"
    f" losses above {analysis.NOISY_HARM} is harm.\n",
    _noisy(summary),
    tables.section(folder),
    "## Evaluations to 1e-3, by task\n",
    *(
      f"### {title}\n\n{_by_task(summary, key)}"
      for key, title in GROUPS.items()
    ),
    "## Figures\n",
    _figures(folder, prefix),
  ]
  return "\n".join(parts)
