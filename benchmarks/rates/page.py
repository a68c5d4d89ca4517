"""docs/rates.md from results/rates.json; every number in it is computed here."""

import itertools
import math
import statistics

from benchmarks import markdown
from benchmarks.methods import opponents
from benchmarks.methods import targets
from benchmarks.rates import plan
from benchmarks.rates import ratios
from benchmarks.savings import analysis
from benchmarks.savings import report

FIGURE = "rates.png"
_MIDDLE, _DEEP = targets.TAUS[1:]
_SHOWN = (_MIDDLE, _DEEP)
_UNTUNED = ("1e-4", "1e-3", "1e-2")
_BELOW = ("1/1000", "1/100", "1/30", "1/10", "1/3")
_HEADLINE = (
  ("adam", "1e-2"),
  ("adam", "1e-3"),
  ("momentum", "1/10"),
  ("sgd", "1/10"),
)
# The columns of the tables against methods that search their own step.
_AGAINST = {
  "adam": ("1e-4", "1e-3", "1e-2", "1/100", "1/10", "1"),
  "momentum": ("1/100", "1/10", "1"),
  "sgd": ("1/100", "1/10", "1"),
}


def rate_name(label: str) -> str:
  """A rate's label in words."""
  if label in plan.ABSOLUTE:
    return label
  if label == plan.BEST:
    return "its best"
  name = "of" if label.startswith("1/") else "times"
  return f"{label} {name} its best"


def _ratio(compared: list[analysis.Comparison]) -> str:
  return report.number(analysis.median(compared)) if compared else ""


def _short(found: dict, group: str) -> str:
  """What the library claims, line by line."""
  lines = []
  for tau in _SHOWN:
    lines += [
      _short_untuned(found, tau, group),
      _short_tuned(found, tau, group),
      _short_flat(found, tau, group),
      _short_searches(found, tau, group),
    ]
  lines.append(_short_solved(found, group))
  return "\n".join(filter(None, lines)) + "\n"


def _short_untuned(found: dict, tau: float, group: str) -> str:
  compared = {
    x: ratios.compare(
      found, ratios.predicting("adam", x), ratios.tuned("adam"), tau, group
    )
    for x in _UNTUNED
  }
  compared = {label: found for label, found in compared.items() if found}
  if not compared:
    return ""
  return (
    f"- **Adam at {_listed(compared)}**, to {report.accuracy(tau)}:"
    f" {_listed(map(_ratio, compared.values()))} times as many true gradients as"
    " tuned Adam (medians over tasks)."
  )


def _short_tuned(found: dict, tau: float, group: str) -> str:
  pooled = ratios.pool(found, tau, group)
  if not pooled.at_best:
    return ""
  names = "at the base's best rate", "at the best of these rates for each task"
  parts = [
    f"{_ratio(compared)} {name} ({ratios.count_harm(compared)} of"
    f" {len(compared)} above {analysis.HARM})"
    for name, compared in zip(names, pooled, strict=True)
  ]
  return (
    "- **SGD, momentum and Adam over the tuned base**, to"
    f" {report.accuracy(tau)}: {_listed(parts)}; medians over pairs of a task and"
    " an optimizer."
  )


def _short_flat(found: dict, tau: float, group: str) -> str:
  pooled = {
    label: [
      c
      for base in opponents.BASES
      for c in ratios.compare(
        found,
        ratios.predicting(base, label),
        ratios.predicting(base, plan.BEST),
        tau,
        group,
      )
    ]
    for label in _BELOW
  }
  pooled = {label: found for label, found in pooled.items() if found}
  if not pooled:
    return ""
  return (
    f"- **SGD, momentum and Adam at {_listed(pooled)} of the base's best"
    f" rate**, to {report.accuracy(tau)}:"
    f" {_listed(map(_ratio, pooled.values()))} times as many as at that rate,"
    " all with prediction (medians over pairs of a task and an optimizer)."
  )


def _short_searches(found: dict, tau: float, group: str) -> str:
  parts = []
  for base, label in _HEADLINE:
    ours, theirs = ratios.predicting(base, label), ratios.search("scipy_lbfgs")
    compared = ratios.compare(found, ours, theirs, tau, group)
    if compared:
      text = mean_text(ratios.mean(found, compared))
      parts.append(f"{text} with {base} at {rate_name(label)}")
  if not parts:
    return ""
  return (
    f"- **L-BFGS-B's evaluations**, to {report.accuracy(tau)}, geometric means"
    f" (what is in brackets, below): {'; '.join(parts)}."
  )


def _short_solved(found: dict, group: str) -> str:
  columns = {m: ratios.search(m) for m in opponents.LINE_SEARCH}
  columns["tuned Adam"] = ratios.tuned("adam")
  columns |= {
    f"Adam with prediction at {x}": ratios.predicting("adam", x)
    for x in _UNTUNED
  }
  solved = {k: _solved(found, c, _MIDDLE, group) for k, c in columns.items()}
  parts = [f"{k} {text}" for k, text in solved.items() if text]
  return f"- **Solved** to {report.accuracy(_MIDDLE)}: {', '.join(parts)}."


def _listed(texts) -> str:
  return ", ".join(texts)


def _solved(found, column, tau, group) -> str:
  done, tried = ratios.solved(found, column, tau, group)
  return f"{done} of {tried}" if tried else ""


def _of_tuned(found: dict, base: str, labels, group: str) -> str:
  """With prediction, and alone, against the tuned base."""
  rows, tuned = [], ratios.tuned(base)
  for label in labels:
    ours, alone = ratios.predicting(base, label), ratios.Column(base, label)
    compared = {
      (column, tau): ratios.compare(found, column, tuned, tau, group)
      for column, tau in itertools.product((ours, alone), _SHOWN)
    }
    if not any(compared.values()):
      continue
    with_prediction = compared[ours, _MIDDLE]
    worst, steps = analysis.worst(with_prediction), ratios.steps
    per_gradient = steps(found, ours, group)
    rows.append(
      [
        rate_name(label),
        *(f"**{_ratio(compared[ours, tau])}**" for tau in _SHOWN),
        f"{report.number(worst.ratio)} ({worst.task})" if worst else "",
        str(ratios.count_harm(with_prediction)),
        _solved(found, ours, _MIDDLE, group),
        "" if per_gradient is None else f"{per_gradient:.0f}",
        *(_ratio(compared[alone, tau]) for tau in _SHOWN),
        _solved(found, alone, _MIDDLE, group),
      ]
    )
  names = [report.accuracy(tau) for tau in _SHOWN]
  head = [
    "rate",
    *(f"with, {name}" for name in names),
    f"worst, {names[0]}",
    f"above {analysis.HARM}",
    f"solved, {names[0]}",
    "steps per gradient",
    *(f"alone, {name}" for name in names),
    f"solved alone, {names[0]}",
  ]
  return markdown.table(head, rows)


def _flatness(found: dict, group: str) -> str:
  """With prediction below the best rate, against prediction at the best."""
  rows = []
  for base in opponents.BASES:
    best = ratios.predicting(base, plan.BEST)
    for tau in _SHOWN:
      compared = [
        ratios.compare(found, ratios.predicting(base, label), best, tau, group)
        for label in _BELOW
      ]
      if any(compared):
        rows.append([base, report.accuracy(tau), *map(_ratio, compared)])
  return markdown.table(["base", "target", *_BELOW], rows)


def mean_text(mean: ratios.Mean) -> str:
  """A geometric mean with what it leaves out."""
  if math.isnan(mean.budget):
    return ""
  solved = report.number(mean.solved)
  return (
    f"{f'**{solved}**' if solved else 'none'} ({mean.both}; +{mean.only_ours},"
    f" -{mean.only_theirs}; {report.number(mean.budget)})"
  )


def _against_searches(found: dict, tau: float, group: str) -> str:
  rows = []
  for base, labels in _AGAINST.items():
    for label in labels:
      means = [
        ratios.mean(
          found,
          ratios.compare(
            found,
            ratios.predicting(base, label),
            ratios.search(method),
            tau,
            group,
          ),
        )
        for method in opponents.LINE_SEARCH
      ]
      if not all(math.isnan(mean.budget) for mean in means):
        rows.append([f"{base}, {rate_name(label)}", *map(mean_text, means)])
  return markdown.table(["with prediction", *opponents.LINE_SEARCH], rows)


def _solved_table(found: dict, group: str) -> str:
  rows = []
  columns = {method: ratios.search(method) for method in opponents.LINE_SEARCH}
  for base in opponents.BASES:
    columns[f"{base} alone, tuned"] = ratios.tuned(base)
    for label in plan.labels_of(base):
      name = f"{base} with prediction, {rate_name(label)}"
      columns[name] = ratios.predicting(base, label)
  for name, column in columns.items():
    cells = [_solved(found, column, tau, group) for tau in targets.TAUS]
    forward = [
      task["forward_only"][column.method]
      for task in ratios.members(found, group).values()
      if column.method in task["forward_only"]
    ]
    extra = f"{statistics.median(forward):.0f}" if any(forward) else ""
    if any(cells):
      rows.append([name, *cells, extra])
  names = map(report.accuracy, targets.TAUS)
  return markdown.table(["method", *names, "losses without a gradient"], rows)


def _by_task(found: dict, group: str) -> str:
  columns = {"adam tuned": ratios.tuned("adam")}
  for label in ("1e-4", "1e-3", "1e-2"):
    columns[f"adam {label}+p"] = ratios.predicting("adam", label)
  for base in ("momentum", "sgd"):
    columns[f"{base} tuned"] = ratios.tuned(base)
    for label in ("1/100", "1/10", "1"):
      columns[f"{base} {label}+p"] = ratios.predicting(base, label)
  for method in opponents.LINE_SEARCH:
    columns[method] = ratios.search(method)
  rows = []
  for name, task in ratios.members(found, group).items():
    listed = [ratios.counts(task, c, _MIDDLE) for c in columns.values()]
    if any(listed):
      cells = [report.count(ratios.median(x)) if x else "" for x in listed]
      rows.append([name, str(task["size"]), *cells])
  return markdown.table(["task", "variables", *columns], rows)


def _starts(found: dict, group: str) -> str:
  """How many starts the runs with prediction are of."""
  listed = {
    len(counts)
    for task in ratios.members(found, group).values()
    for by_method in task["counts"].values()
    for method, by_label in by_method.items()
    if method.endswith("+accelerate")
    for counts in by_label.values()
  }
  if not listed:
    return ""
  low, high = min(listed), max(listed)
  starts = f"{high}" if low == high else f"{low} to {high}"
  tasks = len(ratios.members(found, group))
  return f"{tasks} tasks; medians over {starts} start{'s' * (high > 1)} each.\n"


def _lower(found: dict) -> str:
  """Where what was run here would have moved a target, had it counted."""
  moved = [n for n, t in found["tasks"].items() if t["below"] > _MIDDLE / 10]
  if not moved:
    return ""
  return (
    "A run here went below the best loss known, by more than a tenth of the way"
    f" from it to the target of {report.accuracy(_MIDDLE)}, on"
    f" {', '.join(moved)}: the targets there, the same for all, are easier than"
    " they would be.\n"
  )


def _tuning_runs(found: dict) -> str:
  tried = [n for t in found["tasks"].values() for n in t["tried"].values()]
  if not tried:
    return ""
  return (
    f" The search for a base's best rate was of {statistics.median(tried):.0f}"
    " runs in the median, which nothing here counts."
  )


def text(found: dict) -> str:
  """The page."""
  made = found["made"]
  versions = ", ".join(f"{p} {made['versions'][p]}" for p in ("jax", "optax"))
  parts = [
    "# The rate left alone\n",
    "Written by `python -m benchmarks.rates`; do not edit.\n",
    "How many true gradients does an optimizer need at a rate that nobody"
    " tuned? *With*: `optax_predict.accelerate(optimizer)`, no option changed."
    " *Alone*: the same optimizer without it. *Tuned*: alone, at the best of"
    " four rates per decade, searched for each target apart."
    f"{_tuning_runs(found)} A base's best rate is the one to 1e-3. Targets after"
    " Moré and Wild, the best known losses from the [tuned comparison]"
    "(results.md).\n",
    f"![True gradients against the learning rate]({FIGURE})\n",
    "True gradients to 1e-3 of the gap on the reporting tasks: medians over"
    " tasks and the middle half of them; misses are at the top.\n",
  ]
  for group in ratios.GROUPS:
    if not ratios.members(found, group):
      continue
    names = {"reporting": "Reporting tasks", "cutest": "CUTEst"}
    parts += [f"## {names[group]}\n", _starts(found, group)]
    parts.append(_short(found, group))
    for base in opponents.BASES:
      parts += [
        f"### {base}: true gradients over those of tuned {base}\n",
        "Medians; below 1 saves.\n",
        _of_tuned(found, base, plan.labels_of(base), group),
      ]
    parts += [
      "### With prediction, over prediction at the base's best rate\n",
      _flatness(found, group),
    ]
    for tau in _SHOWN:
      parts += [
        "### Against methods that search their own step, to"
        f" {report.accuracy(tau)}\n",
        "Geometric means where both solved (how many; + only with prediction,"
        " - only the other; the mean with a miss counted as the whole"
        " budget).\n",
        _against_searches(found, tau, group),
      ]
    parts += ["### Solved\n", _solved_table(found, group)]
    parts += ["### Task by task, to 1e-3\n", _by_task(found, group)]
  parts.append(
    "`optimistix_bfgs` and `ssbroyden` hold a dense matrix and are left out"
    " where there are more than 2000 unknowns. A loss without a gradient is the"
    " trial of a line search that was rejected: it is no true gradient and in"
    " no count but its own.\n"
  )
  parts.append(_lower(found))
  parts.append(
    f"Made {made['date']} on {made['device']}, optax_predict"
    f" {made['optax_predict']}; {versions}.\n"
  )
  return "\n".join(filter(None, parts))
