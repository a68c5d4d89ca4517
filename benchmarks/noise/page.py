"""docs/noise.md from results/noise.json; every number is computed here."""

import statistics

from benchmarks import markdown
from benchmarks.noise import cells
from benchmarks.noise import intervals
from benchmarks.noise import plan
from benchmarks.noise import screening
from benchmarks.noise import tasks
from benchmarks.noise import verdicts

_BASES = {"adamw": "AdamW", "sgd": "SGD with momentum"}


def percent(x: float) -> str:
  """With a sign and one decimal."""
  return f"{100 * x:+.1f} %"


def with_interval(found: tuple[float, float, float]) -> str:
  """A value and its 95 % interval."""
  mean, low, high = found
  return f"{percent(mean)} ({100 * low:+.1f} to {100 * high:+.1f})"


def _of(gain: verdicts.Gain) -> str:
  return with_interval(gain[:3])


def named(row: str) -> str:  # noqa: D103
  return f"`{row}`"


def rule() -> str:
  """What ships, in words."""
  return (
    f"at least {verdicts.LEAST:.0%} of the steps saved in the mean, an interval"
    f" above zero, and nowhere more than {verdicts.HARM:.0%} lost"
  )


def verdict(found: dict) -> str:
  """One paragraph that says what came of it."""
  passing = verdicts.passing(found)
  opponent = verdicts.best_opponent(found)
  theirs = verdicts.steps(found, opponent)
  ahead = [
    row
    for row in passing
    if verdicts.steps(found, row, against=opponent).low > 0
  ]
  if not passing:
    text = f"**Nothing that was tried passes**: {rule()}."
  else:
    text = f"Past the rule ({rule()}) go {', '.join(map(named, passing))}. " + (
      f"Ahead of the best that optax has are {', '.join(map(named, ahead))}."
      if ahead
      else "**None of them is ahead of the best that optax has**, so none gets a"
      " name."
    )
  return (
    f"{text} Of what optax has, {named(opponent)} saves most:"
    f" {with_interval(theirs[:3])} of the steps, at worst"
    f" {percent(theirs.worst)}."
  )


def _rests(found: dict) -> str:
  rest = verdicts.resting(found)
  if rest is None:
    return "The library was not run beside its base yet."
  return (
    f"`accelerate` ended where its base did in {rest.same} of {rest.runs} runs"
    f" at the larger batches ({', '.join(map(named, found['rests']))}), at most"
    f" {100 * rest.farthest:.1g} % of the loss above or below it in the others,"
    f" and {with_interval(rest.mean)} in the mean."
  )


def _against(found: dict, row: str) -> str:
  """A candidate against what optax has that does much the same."""
  control = verdicts.control(row)
  return f"{_of(verdicts.steps(found, row, against=control))} {named(control)}"


def _line(found: dict, row: str, opponent: str) -> list[str]:
  each = [verdicts.steps(found, row, base=b) for b in plan.BASES]
  whole = verdicts.steps(found, row)
  best, control, judged = "", "", ""
  if row != opponent:
    best = _of(verdicts.steps(found, row, against=opponent))
  if verdicts.is_candidate(row):
    # An average beside the base has no like there.
    mine = plan.method_of(row) == plan.BASE
    control = "" if mine else _against(found, row)
    judged = "yes" if whole.passes else "no"
  return [
    named(row),
    *map(_of, [*each, whole]),
    percent(whole.worst),
    with_interval(verdicts.loss(found, row)),
    control,
    best,
    judged,
  ]


def _main_table(found: dict) -> str:
  opponent = verdicts.best_opponent(found)
  listed = [row for row in verdicts.rows(found) if row != plan.BASE]
  head = [
    "row",
    *(_BASES[b] for b in plan.BASES),
    "both",
    "worst",
    "loss after equal gradients",
    "of the steps of its like in optax",
    f"of the steps of {named(opponent)}",
    "passes",
  ]
  rest, library = verdicts.resting(found), []
  if rest:
    same = f"the base's loss in {rest.same} of {rest.runs} runs"
    loss = with_interval(rest.mean)
    library = [[named(plan.LIBRARY), "", "", same, "", loss, "", "", ""]]
  lines = [_line(found, row, opponent) for row in listed]
  return markdown.table(head, [*library, *lines])


def _place_table(found: dict, base: str, schedule: str) -> str:
  where = [p for p in verdicts.places(found, base) if p[1] == schedule]
  lines = []
  for row in verdicts.rows(found):
    if row != plan.BASE:
      values = [verdicts.at_place(found, row, p) for p in where]
      lines.append([named(row), *map(with_interval, values)])
  names = ["{}, batches of {}".format(*cells.parts(s)) for s, _ in where]
  return markdown.table(["row", *names], lines)


def screened_gain(found: dict, row: str, base: str | None = None) -> float:
  """Steps saved in the first stage, in the mean over settings."""
  own = {
    k: s
    for k, s in found["screens"].items()
    if base in (None, cells.parts(k)[2])
  }
  mean = statistics.fmean(screening.gains(own, row).values())
  return intervals.share(mean)


def _left_out(found: dict) -> str:
  used = screening.gains(found["screens"], plan.BASE)
  out = [named(s) for s in found["screens"] if s not in used]
  why = "where the base's shorter run ended no higher than the full one"
  return f" Not in the means: {', '.join(out)}, {why}." if out else ""


def _screen_table(found: dict) -> str:
  lines = []
  for method in plan.screened():
    for row in plan.rows(method):
      lines.append(
        [
          named(row),
          *(percent(screened_gain(found, row, b)) for b in plan.BASES),
          percent(screened_gain(found, row)),
          str(screening.at_edge(found["screens"], row)),
        ]
      )
  head = ["row", *_BASES.values(), "both", "best rate at an end"]
  return markdown.table(head, lines)


def _rows_in_words() -> str:
  return "\n".join(
    f"- `{name}`: {method.text}." for name, method in plan.METHODS.items()
  )


def _setting_table() -> str:
  lines = []
  for name in tasks.NAMES:
    task = tasks.get(name)
    what = tasks.describe(name)
    sizes = " and ".join(map(str, task.sizes))
    lines.append([name, what, sizes, str(task.steps)])
  return markdown.table(["task", "what", "batches of", "steps"], lines)


_HOW = """\
## How it was measured

{settings}
Every batch is drawn anew, so the noise never ends. The loss is that of a fixed
sample which no method sees. AdamW has betas of 0.9 and 0.99 and a weight decay of
0.01, SGD a momentum of 0.9. All rates warm up over {warmup:.0%} of the run.

1. **Tuning**, at {screened} seeds under a cosine: all methods at {rates} rates,
   a factor of 2 apart, of which the best counts.
2. **Comparison**, at {seeds} other seeds, under a cosine and a linear decay to
   zero: the base, the best {finalists} candidates, what optax has that does much
   the same, and the best of its own. Each at three rates, a factor of 1.4 apart,
   around the best of the first stage, under the cosine; then, at the best, under
   both and at {short:.0%} of the length. The library runs beside its base at the
   larger batches, where there is least noise to make it rest.

The same seed is the same start and the same batches for all methods. *Steps
saved*: a line of the final loss over the logarithm of the length gives the steps
to the loss that the tuned base ends at. In the first stage the base's line, from
runs of {screened_short:.0%} of the length, stands for all. Intervals are 95 %, by
a jackknife over the pairs, which is Student's paired interval for a mean. They say
how sure a number is on these tasks, not on others.
"""


_READING = """\
The correction before SGD with momentum is no new method: with c equal to the
momentum it takes the steps of `nesterov=True`, and other c weigh the same two terms
otherwise. So a gain over the base alone is no reason for a new name: it has to be a
gain over what optax has, which the two columns before the last show. The models are
small, the runs short, and the base's momentum is 0.9 throughout: the numbers say
what helps here, not what helps everywhere.
"""


def _compared(found: dict) -> list[str]:
  """What the second stage says, if it was run."""
  if not found["finals"]:
    return ["The second stage was not run yet.\n"]
  return [
    verdict(found) + "\n",
    _main_table(found),
    "Steps saved, of the base's where nothing else is said. *Worst* is the"
    " least of all tasks, batch sizes and schedules.\n",
    _READING,
  ]


def _places(found: dict) -> list[str]:
  if not found["finals"]:
    return []
  tables = [
    f"Steps saved before {_BASES[base]}, {schedule}:\n\n"
    + _place_table(found, base, schedule)
    for base in plan.BASES
    for schedule in plan.SCHEDULES
    if verdicts.places(found, base)
  ]
  return ["## The second stage, place by place\n", *tables]


def _not_yet(found: dict) -> str:
  left = [named(s) for s in found["screens"] if s not in found["finals"]]
  if not left:
    return ""
  return f" Not run to the end there: {', '.join(left)}."


def text(found: dict) -> str:
  """The page."""
  made, versions = found["made"], found["made"]["versions"]
  how = _HOW.format(
    settings=_setting_table(),
    warmup=plan.WARMUP,
    screened=len(plan.SCREENED_SEEDS),
    rates=len(plan.RATES),
    seeds=len(plan.SEEDS),
    finalists=plan.FINALISTS,
    short=min(plan.LENGTHS),
    screened_short=plan.SCREENED_SHORT,
  )
  parts = [
    "# Under noise\n\nWritten by `python -m benchmarks.noise`; do not edit.\n",
    "**What to do: nothing.** Under minibatch noise forecasts fail, and the"
    " library rests: it costs its memory and next to no loss either way. "
    + _rests(found)
    + "\n",
    "Might past gradients, or averages of the parameters, earn something there?"
    " They were measured on small tasks against tuned bases whose rate decays"
    f" to zero, in {len(found['screens'])} settings of"
    f" {len(plan.settings())}, {len(found['finals'])} of them in the second"
    f" stage too.{_not_yet(found)}\n",
    *_compared(found),
    "## What the rows are\n\n" + _rows_in_words() + "\n",
    how,
    "## The first stage\n\nSteps saved, in the mean over tasks and batch sizes;"
    " a setting counts for no more than a factor of two. The last column"
    f" counts settings, of {len(found['screens'])}.{_left_out(found)}\n\n"
    + _screen_table(found),
    *_places(found),
    f"Made {made['date']} on {made['device']}, optax_predict"
    f" {made['optax_predict']}; Python {made['python']}, jax {versions['jax']},"
    f" optax {versions['optax']}.\n",
  ]
  return "\n".join(parts)
