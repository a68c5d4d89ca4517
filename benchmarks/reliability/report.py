"""docs/reliability.md from the JSON; every number in it is computed here."""

import math
from typing import Any

import numpy as np

from benchmarks.markdown import table
from benchmarks.reliability import comparing
from benchmarks.savings import analysis

# Beyond this a run is called slower; the control shows what chance does.
SLOWER = 1.1
_FASTER = f"{comparing.FASTER - 1:.0%}"
_HEAD = """# Reliability

If a run came out worse, begin with [what to do](if_it_gets_worse.md). This page says
how often prediction makes a run worse, or loses it:

{short}

Made by

```
python -m benchmarks.reliability --count {count} --seed {seed} --bases {names}
```

{date}, jax {jax}, optax {optax}, {device}; {minutes:.0f} minutes in {jobs} processes.

## Random problems

{problems} random problems ({families} families of {count}, seed {seed}), each with
{bases}. *Base* is the optimizer alone. *Prediction* is the same optimizer in
`accelerate` with its defaults.

Each problem has these rates: the best of {grid} for the base alone after {horizon}
gradients, and {careful}. Base and prediction run at the same rate for
twice as many true gradients as the rate was chosen by. Targets are shares of the gap
between the first loss and the base's best after {horizon} gradients.

Two more runs show what else does harm:

- The **control** is the base alone from a start moved by 1e-4 of itself: it shows
  chance.
- The base that is **{faster} faster** runs alone at a rate that is larger by that
  much: it shows how near to the edge the runs are.

A run is

- **lost** if after {horizon} true gradients its loss is above its start, or a loss
  before that is not finite, and neither is so of the base alone;
- lost **later by the base too** if the same happens to the base alone at some later
  gradient, up to {longer} times as many;
- **not finite** if its parameters or its state end so after twice as many true
  gradients, and the base's do not.

"""


def text(results: dict[str, Any]) -> str:
  """The page."""
  made, size = results["made"], results["size"]
  head = _HEAD.format(
    short="\n".join(
      f"- {line}"
      for line in (
        _say_lost(results),
        _say_above(results),
        _say_finite(results["faults"]),
      )
    ),
    date=made["date"],
    device=made["device"],
    jax=made["versions"]["jax"],
    optax=made["versions"]["optax"],
    problems=size["count"] * len(size["families"]),
    families=len(size["families"]),
    count=size["count"],
    bases=", ".join(results["optimizers"]),
    grid=len(size["grid"]),
    horizon=size["horizon"],
    seed=size["seed"],
    longer=comparing.LONGER,
    careful=", ".join(_list_rates(results)[1:]),
    faster=_FASTER,
    minutes=results["seconds"] / 60,
    jobs=max(results["jobs"], 1),
    names=" ".join(results["optimizers"]),
  )
  parts = [
    head + _lost(results),
    "## True gradients to a target\n\n"
    "Relative to the base alone. A miss is a target that is not reached in"
    " twice the base's budget.\n\n" + _ratios(results),
    "![Distribution of the ratios](reliability.png)\n",
    "## By family\n\n"
    f"All optimizers and rates, target {results['taus'][-1]}.\n\n"
    + _families(results),
    "## The worst runs\n\n" + _worst(results),
    _relapses(results),
    _tasks(results),
    _faults(results),
    _long_run(results),
  ]
  return "\n".join(parts)


def _settings(results):
  for name, settings in results["optimizers"].items():
    for label, found in settings.items():
      yield name, label, found


def _list_rates(results) -> list[str]:
  return list(dict.fromkeys(label for _, label, _ in _settings(results)))


def _array(values) -> np.ndarray:
  return np.array([math.inf if v is None else v for v in values], float)


def _problem(results, index: int) -> str:
  family, number = divmod(index, results["size"]["count"])
  return f"{results['size']['families'][family]} {number}"


def _say_lost(results) -> str:
  """How many runs were lost, by whom."""
  total, later, endless, control, faster = (
    sum(len(found[key]) for *_, found in _settings(results))
    for key in (
      "lost",
      "lost_later",
      "not_finite",
      "control_lost",
      "faster_lost",
    )
  )
  runs = sum(len(found["rates"]) for *_, found in _settings(results))
  return (
    f"**{total} of {runs} runs were lost with prediction, {control} by the"
    f" control, {faster} by a base that is {_FASTER} faster; {later} of the"
    f" {total} the base alone loses later. {endless} of all ended not finite.**"
  )


def _lost(results) -> str:
  rows = []
  for name, label, found in _settings(results):
    which = [_problem(results, i) for i in found["lost"]]
    rows.append(
      [
        name,
        label,
        str(len(found["rates"])),
        f"**{len(which)}**",
        str(len(found["lost_later"])),
        str(len(found["not_finite"])),
        str(len(found["control_lost"])),
        str(len(found["faster_lost"])),
        ", ".join(which),
      ]
    )
  head = ["base", "rate", "runs", "lost", "later by the base too", "not finite"]
  head += ["lost by the control", f"{_FASTER} faster", "which"]
  return table(head, rows)


def _quantile(ratios: np.ndarray, q: float) -> str:
  value = np.quantile(ratios, q, method="higher")
  return "miss" if math.isinf(value) else f"{value:.2f}"


def _ratios(results) -> str:
  rows = []
  for name, label, found in _settings(results):
    for tau, target in found["targets"].items():
      ratios, *controls = (
        _array(target[key]) for key in ("ratios", "control", "faster")
      )
      above = ", ".join(f"{(c > SLOWER).mean():.1%}" for c in controls)
      missed = ", ".join(str(np.isinf(c).sum()) for c in controls)
      rows.append(
        [
          name,
          label,
          tau,
          _quantile(ratios, 0.05),
          f"**{_quantile(ratios, 0.5)}**",
          _quantile(ratios, 0.95),
          _quantile(ratios, 0.99),
          f"{(ratios > SLOWER).mean():.1%} ({above})",
          f"{np.isinf(ratios).sum()} ({missed})",
        ]
      )
  head = ["base", "rate", "target", "5 %", "median", "95 %", "99 %"]
  controls = f"(control, {_FASTER} faster)"
  head += [f"above {SLOWER} {controls}", f"misses {controls}"]
  return table(head, rows)


def _say_above(results) -> str:
  """How many of all targets took longer, at each rate."""
  said = []
  for rate in _list_rates(results):
    share = {}
    for key in ("ratios", "control", "faster"):
      each = [
        _array(target[key])
        for _, label, found in _settings(results)
        for target in found["targets"].values()
        if label == rate
      ]
      share[key] = (np.concatenate(each) > SLOWER).mean()
    said.append(
      f"{rate} {share['ratios']:.1%} (control"
      f" {share['control']:.1%}, {_FASTER} faster {share['faster']:.1%})"
    )
  listed = ", ".join(said)
  return f"**Targets that took more than {SLOWER} times as many: {listed}.**"


def _families(results) -> str:
  count, tau = results["size"]["count"], results["taus"][-1]
  rows = []
  for number, family in enumerate(results["size"]["families"]):
    at = slice(number * count, (number + 1) * count)
    ratios, control = (
      np.concatenate(
        [_array(f["targets"][tau][key])[at] for *_, f in _settings(results)]
      )
      for key in ("ratios", "control")
    )
    lost = sum(
      at.start <= i < at.stop
      for *_, found in _settings(results)
      for i in found["lost"]
    )
    rows.append(
      [
        family,
        str(lost),
        _quantile(ratios, 0.5),
        _quantile(ratios, 0.95),
        _quantile(ratios, 1.0),
        f"{(ratios > SLOWER).mean():.1%}",
        f"{(control > SLOWER).mean():.1%}",
      ]
    )
  head = ["family", "lost", "median", "95 %", "worst"]
  return table([*head, f"above {SLOWER}", "the control"], rows)


def _worst(results, shown: int = 10) -> str:
  found = [
    (ratio, control, name, label, tau, index, setting["rates"][index])
    for name, label, setting in _settings(results)
    for tau, target in setting["targets"].items()
    for index, (ratio, control) in enumerate(
      zip(_array(target["ratios"]), _array(target["control"]))
    )
    if ratio > SLOWER
  ]
  missed: dict[str, list[str]] = {}
  for ratio, _, name, label, tau, index, _ in found:
    if math.isinf(ratio):
      run = f"{_problem(results, index)}, {name}, {label}"
      missed.setdefault(run, []).append(tau)
  reached = sorted((x for x in found if x[0] < math.inf), key=lambda x: -x[0])
  rows = [
    [
      _problem(results, index),
      name,
      f"{rate:.2g} ({label})",
      tau,
      f"{ratio:.2f}",
      "miss" if math.isinf(control) else f"{control:.2f}",
    ]
    for ratio, control, name, label, tau, index, rate in reached[:shown]
  ]
  head = ["problem", "base", "rate", "target", "ratio", "control"]
  listed = "\n".join(f"- {run}: {', '.join(at)}" for run, at in missed.items())
  return (
    f"{len(found)} of all targets took more than {SLOWER} times as many"
    f" gradients. {len(found) - len(reached)} of them are misses, in these runs"
    " (with the targets that were missed):"
    f"\n\n{listed or 'None.'}\n\nThe {len(rows)} worst of the others:\n\n"
    + table(head, rows)
  )


def _relapses(results) -> str:
  columns = [
    "with prediction",
    "alone",
    "alone, longer",
    "with prediction only",
    "for two gradients",
    "nor in as many steps",
  ]
  rows, total = [], dict.fromkeys(columns, 0)
  for name, label, found in _settings(results):
    each = {key: set(which) for key, which in found["relapsed"].items()}
    only = each["with prediction"] - each["alone"] - each["alone, longer"]
    lasting = only & each["for two gradients"]
    counts = {key: len(each[key]) for key in columns[:3]}
    counts["with prediction only"] = len(only)
    counts["for two gradients"] = len(lasting)
    counts["nor in as many steps"] = len(lasting - each["alone, as many steps"])
    total = {key: total[key] + counts[key] for key in columns}
    rows.append(
      [name, label, str(len(found["rates"])), *map(str, counts.values())]
    )
  runs = sum(len(found["rates"]) for *_, found in _settings(results))
  near, far = min(comparing.TAUS), max(comparing.TAUS)
  seen = ", ".join(f"{total[key]} {key}" for key in columns[:3])
  only, lasting, left = (total[key] for key in columns[3:])
  longest = comparing.LONGEST * results["size"]["horizon"]
  return f"""## Late bursts

If a run goes on long after it has converged, let the rate decay. Optimizers leave a
minimum again, Adam above all, because its second moments forget. With prediction a
run takes more steps in as many gradients, and so forgets more per gradient.

A run has a late burst if its loss comes within {near:g} of the gap and is later above
{far:g} of it, or not finite. Runs are watched for twice as many gradients as set the
gap. The base alone is also watched for {comparing.LONGER} times as many ("alone,
longer"). "With prediction only" are the runs in which the base alone has none in
either.

The next column has those of them that are above it at two true gradients in a row. In
the others the loss is down again at the next one. So it is where a window led too far
and is taken back at once: like a trial of a line search that costs one gradient, and
the parameters return to where it began. The last column leaves out the runs in which
the base alone has a burst within as many optimizer steps as the whole run with
prediction took, {longest:,} at most.

**Of {runs} runs: {seen}. {only} with prediction only: {lasting} of them for two
gradients, and {left} of those not alone in as many steps either.**

{table(["base", "rate", "runs", *columns], rows)}"""


_GROUPS = {"reporting": "held out", "tuning": "tuning", "cutest": "CUTEst"}
_MODES = {"drop_in": "the base's", "tuned": "its own"}


def _tasks(results) -> str:
  rows = [
    [
      row["target"],
      _GROUPS[row["group"]],
      row["base"],
      _MODES[row["mode"]],
      str(row["pairs"]),
      f"**{row['harmed']}**",
      str(row["missed"]),
      "" if row["worst"] is None else f"{row['worst']:.2f}",
      str(row["gained"]),
    ]
    for row in results["tasks"]
  ]
  head = ["target", "tasks", "base", "rate", "solved", f"above {analysis.HARM}"]
  head += ["missed", "worst of the others", "solved with prediction only"]
  return f"""## The benchmark's tasks

The same question for the tasks of the [benchmark](results.md). "Solved" counts the
tasks that the tuned base solved, alone or with prediction. "Above {analysis.HARM}"
counts those of them that needed more than {analysis.HARM} times as many true
gradients with prediction, in the median over starts. At the base's rate nothing is
tuned for prediction.

{table(head, rows)}"""


def _number(value: float | None) -> str:
  return "never" if value is None else f"{value:.3g}"


def _say_finite(faults) -> str:
  """How many cases stayed finite."""
  cases = sum(row["cases"] for rows in faults.values() for row in rows)
  finite = sum(row["finite"] for rows in faults.values() for row in rows)
  return f"**{finite} of {cases} faults left the run finite throughout.**"


def _faults(results) -> str:
  faults = results["faults"]
  rows = [
    [
      row["fault"],
      name,
      str(row["cases"]),
      str(row["finite"]),
      _number(row["recovery_median"]),
      _number(row["recovery_worst"]),
      _number(row["end_worst"]),
    ]
    for name, table_rows in faults.items()
    for row in table_rows
  ]
  head = ["fault", "base", "cases", "finite", "recovery, median", "worst"]
  return f"""## Faults

A run on a bowl with a wall is disturbed. Each case begins one fault at one of the
first calls: a gradient is replaced for one call or five, or has noise of its own
length added for thirty. The base clips gradients and leaves out what is not finite.

- *Recovery* is the number of true gradients from the end of the fault to the next
  predicted step.
- The last column compares the last loss with the base's, after the same fault and as
  many true gradients. It is the difference as a share of the first loss, the largest
  of all cases. It is negative where prediction ends lower in each.

{table([*head, "end above the base's, worst"], rows)}"""


def _long_run(results) -> str:
  rows = [
    [
      f"{row['steps']:,}",
      f"{row['loss']:.4g}",
      f"{row['error']:.4f}",
      f"{row['predicted']:.1%}",
      f"{row['drift']:+.1e}",
      str(row["bytes"]),
      "yes" if row["finite"] else "no",
    ]
    for row in results["long_run"]
  ]
  head = ["steps", "mean loss", "mean error", "predicted", "statistics' drift"]
  return f"""## A long run

One problem whose minimum moves for ever, in one scan after another, each of which
takes over the state. A row is one scan: mean loss, mean error and share of predicted
steps are of that part of the run. The drift compares the state's own mean error with
the same mean computed beside it.

{table([*head, "bytes of state", "finite"], rows)}"""
