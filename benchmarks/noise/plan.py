"""What is compared: methods, rates, lengths, seeds, and in which order.

Two stages. The first tunes every method at three seeds and names the best. The
second compares those at ten other seeds, at three rates around the best and at
two lengths, so that what chance gave the winner is not counted.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp
import optax

from benchmarks.noise import candidates
from benchmarks.noise import tasks
import optax_predict

BASES = ("adamw", "sgd")
SCHEDULES = ("cosine", "linear")
SHAPES = (*SCHEDULES, "constant", "late")
_LATE = 0.2
WARMUP = 0.05
# Of the rates in `tasks`: the first stage; and of its best: the second.
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
NEIGHBOURS = (2**-0.5, 1.0, 2**0.5)
# Of the steps in `tasks`; in the first stage only the base has a shorter run.
LENGTHS = (0.7, 1.0)
SCREENED_SHORT = 0.8
SCREENED_SEEDS = (100, 101, 102)
SEEDS = tuple(range(10))
# How many of the best of each kind are in the second stage.
FINALISTS, OPPONENTS = 3, 1
BASE = "base"
# In the second stage whatever the first one says.
ALWAYS = (BASE, "nesterov")
LIBRARY = "accelerate"
SCREENED_SCHEDULE = "cosine"


def base(name: str) -> Callable:
  """AdamW or SGD with momentum: schedule, options -> optimizer."""
  if name == "adamw":

    def make(schedule, momentum=0.9, nesterov=False):
      return optax.adamw(
        schedule, b1=momentum, b2=0.99, weight_decay=0.01, nesterov=nesterov
      )

    return make
  return lambda schedule, momentum=0.9, nesterov=False: optax.sgd(
    schedule, momentum=momentum, nesterov=nesterov
  )


def shape(schedule, count, steps):
  """The share of the rate, after warm-up, by one of `SHAPES`."""
  warm = WARMUP * steps
  rest = jnp.clip((count - warm) / (steps - warm), 0.0, 1.0)
  decayed = jnp.stack(
    [
      0.5 * (1 + jnp.cos(jnp.pi * rest)),
      1 - rest,
      jnp.ones_like(rest),
      jnp.minimum((1 - rest) / _LATE, 1.0),
    ]
  )
  return jnp.minimum((count + 1) / warm, 1.0) * decayed[schedule]


def _at_params(state, params):
  del state
  return {"": params}


class Method(NamedTuple):
  """One way to use gradients.

  Attributes:
    make: (base's factory, schedule, steps) -> transformation.
    read: (state, params) -> suffix -> parameters to be evaluated.
    schedule: its own one of `SHAPES`, if not the setting's.
    shift: of the rates of AdamW and SGD, so that the best is inside.
    rows: its suffixes.
    text: what it is.
    control: what optax has that does much the same.
  """

  make: Callable
  text: str
  read: Callable[[Any, Any], dict[str, Any]] = _at_params
  schedule: str | None = None
  shift: tuple[float, float] = (1.0, 1.0)
  rows: tuple[str, ...] = ("",)
  control: str = "nesterov"


def _corrected(weight, clip=None):
  links = [candidates.correct(weight)]
  if clip is not None:
    links.append(optax.clip_by_global_norm(clip))
  return lambda base, schedule, steps: optax.chain(*links, base(schedule))


def _averaged(*shares):
  def make(base, schedule, steps):
    return candidates.average(base(schedule), [s * steps for s in shares])

  return make


def _primal(smoothing, mixing, momentum):
  return lambda base, schedule, steps: candidates.primal_average(
    base(schedule, momentum=momentum), smoothing, mixing
  )


def _schedule_free(base, schedule, steps):
  return optax.contrib.schedule_free(
    base(schedule, momentum=0.0), schedule, b1=0.9
  )


_READ_AVERAGES = lambda state, params: {  # noqa: E731
  "": params,
  "+short": state.averages[0],
  "+long": state.averages[1],
}
_AVERAGE_ROWS = ("", "+short", "+long")
_SMOOTH = lambda state, params: {"": state.smooth}  # noqa: E731

METHODS = {
  BASE: Method(
    _averaged(0.03, 0.1),
    "the base itself; `+short` and `+long`: averages of its parameters over"
    " 3 % and 10 % of the run, with decay",
    _READ_AVERAGES,
    rows=_AVERAGE_ROWS,
  ),
  LIBRARY: Method(
    lambda base, schedule, steps: optax_predict.accelerate(base(schedule)),
    "`optax_predict.accelerate(base)` as it ships, which rests",
  ),
  "nesterov": Method(
    lambda base, schedule, steps: base(schedule, nesterov=True),
    "opponent: optax's own `nesterov=True`",
  ),
  "late_decay": Method(
    lambda base, schedule, steps: base(schedule),
    "opponent: the base at a constant rate with a linear decay to zero over"
    " the last fifth",
    schedule="late",
    shift=(0.5, 0.5),
  ),
  "momentum_0.8": Method(
    lambda base, schedule, steps: base(schedule, momentum=0.8),
    "opponent: the base with a momentum of 0.8 in place of 0.9",
    shift=(1.0, 2.0),
  ),
  "momentum_0.6": Method(
    lambda base, schedule, steps: base(schedule, momentum=0.6),
    "opponent: the same with 0.6",
    shift=(1.0, 4.0),
  ),
  "clipped": Method(
    lambda base, schedule, steps: optax.chain(
      optax.clip_by_global_norm(1.0), base(schedule, nesterov=True)
    ),
    "opponent: `nesterov` before which gradients are clipped to norm 1",
  ),
  "lookahead": Method(
    lambda base, schedule, steps: candidates.lookahead(base(schedule), 6, 0.5),
    "opponent: `optax.lookahead`, 6 steps, 0.5",
    lambda state, params: {"": state.slow},
    shift=(2.0, 2.0),
  ),
  "schedule_free": Method(
    _schedule_free,
    "opponent: `optax.contrib.schedule_free`, b1 = 0.9, no decay",
    lambda state, params: {
      "": optax.contrib.schedule_free_eval_params(state, params)
    },
    schedule="constant",
    shift=(2.0, 15.0),
  ),
  "correct_0.25": Method(
    _corrected(0.25), "g + c (g - g_before) with c = 0.25"
  ),
  "correct_0.475": Method(
    _corrected(0.475), "the same with c = 0.475, as in MARS-approx (2411.10438)"
  ),
  "correct_mars": Method(
    _corrected(0.475, clip=1.0),
    "MARS-approx whole: the same, clipped to norm 1",
    control="clipped",
  ),
  "correct_1": Method(_corrected(1.0), "the same with c = 1"),
  "correct_online": Method(
    _corrected(None),
    "the same with c the correlation of successive gradients",
  ),
  "constant": Method(
    _averaged(0.1, 0.3),
    "the base without decay; `+short` and `+long`: averages over 10 % and"
    " 30 % of the run",
    _READ_AVERAGES,
    control="late_decay",
    schedule="constant",
    shift=(0.5, 0.5),
    rows=_AVERAGE_ROWS,
  ),
  "primal_0.9": Method(
    _primal(0.9, 0.8, momentum=0.9),
    "generalized primal averaging (2512.17131): average 0.9, mixing 0.8, the"
    " base's momentum kept",
    _SMOOTH,
    shift=(0.5, 0.25),
    control="schedule_free",
  ),
  "primal_0.97": Method(
    _primal(0.97, 0.9, momentum=0.0),
    "the same with 0.97 and 0.9 in place of the base's momentum",
    _SMOOTH,
    shift=(1.0, 5.0),
    control="schedule_free",
  ),
  "outer_nesterov": Method(
    lambda base, schedule, steps: candidates.outer_nesterov(
      base(schedule), 10, 0.7, 0.9
    ),
    "an outer Nesterov step (0.7, momentum 0.9) on every ten steps",
    shift=(0.25, 0.12),
    control="lookahead",
  ),
  "transport_0.5": Method(
    lambda base, schedule, steps: candidates.transport(base(schedule), 0.5),
    "implicit gradient transport (1906.03532), at most 0.5 kept",
    lambda state, params: {"": state.params},
    control="momentum_0.8",
  ),
  "transport_0.9": Method(
    lambda base, schedule, steps: candidates.transport(
      base(schedule, momentum=0.0), 0.9
    ),
    "the same, at most 0.9 kept, in place of the base's momentum",
    lambda state, params: {"": state.params},
    shift=(1.0, 5.0),
    control="momentum_0.8",
  ),
  "secant_variate": Method(
    lambda base, schedule, steps: optax.chain(
      candidates.secant_variate(0.1), base(schedule, momentum=0.0)
    ),
    "a secant model's gradient plus the average, over ten steps, of what it was"
    " off by, in place of the base's momentum",
    shift=(1.0, 10.0),
    control="momentum_0.8",
  ),
}


def rows(method: str) -> list[str]:
  """The rows of a method in every table."""
  return [method + suffix for suffix in METHODS[method].rows]


def method_of(row: str) -> str:
  """The method that makes a row."""
  return row.split("+")[0]


def is_new(method: str) -> bool:
  """Whether a method is a candidate, and no base or opponent."""
  opponent = METHODS[method].text.startswith("opponent")
  return method not in (BASE, LIBRARY) and not opponent


def screened() -> tuple[str, ...]:
  """The methods of the first stage: the library has the base's rate."""
  return tuple(m for m in METHODS if m != LIBRARY)


def tuned_by(method: str) -> list[str]:
  """The rows whose best decides on the rate; averages follow the base."""
  return rows(method)[:1] if method == BASE else rows(method)


def settings() -> list[tuple[str, int, str]]:
  """Task, batch size and base, the cheapest first."""
  return [
    (name, tasks.get(name).sizes[i], b)
    for i in range(2)
    for name in tasks.NAMES
    for b in BASES
  ]


def centre(task: tasks.Task, base: str, method: str) -> float:
  """The rate that the first stage's factors are of."""
  return task.rates[base] * METHODS[method].shift[BASES.index(base)]
