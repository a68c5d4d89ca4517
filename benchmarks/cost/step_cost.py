"""What a predicted step costs beside the optimizer's own update.

python -m benchmarks.cost.step_cost [--sizes 1 4 16] [--leaves 1 50]

A predicted step cannot be cheaper than moving its bytes: the optimizer's own
reads and writes, less the gradient it does not read, plus every history buffer
once; a fourth of that where four steps are one pass. That floor is computed from
the real state and shown beside the time, and how much of the device's bandwidth,
measured with a copy, the bytes make use of.

On a GPU the host decides whether a loop or a cond goes on, and waits for the
device to say. How often is counted in a profile; what it costs is the difference
to as many steps in a loop whose length the compiler knows ("fixed count").

Beside predicted steps in these forms: the update from a true gradient, which is
recorded, and from one that passes while the predictor rests. "default" is the whole
predictor as it comes, of which only these two are shown: its windows end as they will.
What it costs to rest is also measured in a training step that takes as long as 50
updates, "resting, step of 50": the ratio is to such a step, not to one update.
"""

import argparse
from collections.abc import Callable
import functools
import itertools
import json
import pathlib
import statistics
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import optax

from benchmarks import environment
from benchmarks.cost import timing
import optax_predict
from optax_predict.core import trees
from optax_predict.engine import predicting
from optax_predict.engine import window
from optax_predict.forms import visit

STEPS = 8
# Updates that a training step takes as long as, and such steps in one timing: the
# host prepares each while the device still works at the last.
_DEAR = 50
_CALLS = 4
_RATE = 1e-4
# Reads and writes of one parameter-sized buffer in a bare update.
_BARE_BUFFERS = {"adam": 7, "sgd": 3}
_BASES = {"adam": optax.adam, "sgd": optax.sgd}
_FORECASTERS = {
  "momentum": optax_predict.forecasters.momentum,
  "secant": optax_predict.forecasters.secant,
  "secant(5)": functools.partial(optax_predict.forecasters.secant, 5),
}
_DEFAULT = "default"
_HISTORIES = {"float32": None, "bfloat16": jnp.bfloat16}
_RESULTS = pathlib.Path(__file__).parents[1] / "results"


class Setting(NamedTuple):
  """One line of the table.

  Attributes:
    forecaster: its name.
    base: the optimizer after the predictor.
    leaves: arrays that the parameters are split into.
    parameters: entries in all.
    history: dtype of the history.
    is_flat: whether ``optax.flatten`` makes one array of them, for predictor and
      optimizer; it is compared with the bare optimizer on the arrays as they are.
  """

  forecaster: str
  base: str
  leaves: int
  parameters: int
  history: str
  is_flat: bool = False


def _params(setting: Setting) -> list[jax.Array]:
  size = setting.parameters // setting.leaves
  keys = jax.random.split(jax.random.key(0), setting.leaves)
  return [jax.random.normal(key, (size,)) for key in keys]


def _optimizer(setting: Setting) -> optax.GradientTransformation:
  parts = ()
  if setting.forecaster != _DEFAULT:
    horizon = optax_predict.horizons.fixed(STEPS, min_correlation=-1.0)
    parts = (_FORECASTERS[setting.forecaster](), horizon)
  rule = optax_predict.predict_gradients(
    *parts, accumulator_dtype=_HISTORIES[setting.history]
  )
  tx = optax.chain(rule, _BASES[setting.base](_RATE))
  return optax.flatten(tx) if setting.is_flat else tx


class _Form(NamedTuple):
  """A program and what it is compared with.

  Attributes:
    name: as in the table.
    ours: ``ours(params, state)`` or, with a true gradient, ``(params, state,
      grads)``.
    theirs: the bare optimizer's, always of three arguments.
    steps: of either, in one call.
    calls: in one timing.
    is_predicted: whether ``ours`` has no gradient.
  """

  name: str
  ours: Callable[..., Any]
  theirs: Callable[..., Any]
  steps: int = 1
  calls: int = 1
  is_predicted: bool = False


def _forms(tx, base, setting: Setting):
  loop, step = _bare_loop(base, STEPS), _bare_step(base)
  resting = _true_gradient(tx, -1)
  if setting.forecaster != _DEFAULT:
    forward, counted = _fast_forward(tx), _fixed_count(tx)
    yield _Form("fast_forward", forward, loop, STEPS, is_predicted=True)
    yield _Form("fixed count", counted, loop, STEPS, is_predicted=True)
    yield _Form("per step", _per_step(tx), step, is_predicted=True)
  yield _Form("true gradient", _true_gradient(tx, 0), step)
  yield _Form("resting", resting, step)
  if setting.forecaster == _DEFAULT:
    name = f"resting, step of {_DEAR}"
    yield _Form(name, _dear(resting, base), _dear(step, base), calls=_CALLS)


def _steps_at_once(setting: Setting) -> int:
  """Steps of `fast_forward` in one pass, under a horizon without limits."""
  needs_look_ahead = _FORECASTERS[setting.forecaster]().needs_look_ahead
  return 1 if needs_look_ahead else window.STEPS_AT_ONCE


def _is_state(x: Any) -> bool:
  return isinstance(x, optax_predict.PredictState)


def _with_steps_left(state: Any, steps: int = STEPS) -> Any:
  """The state with this many predicted steps to go, whatever it is now.

  Fewer than none: it rests for so many true gradients.
  """

  def refill(x):
    if not _is_state(x):
      return x
    left = x.window._replace(remaining_steps=jnp.int32(max(steps, 0)))
    look = x.look._replace(remaining=jnp.int32(0))
    rest_steps = jnp.int32(max(-steps, 0))
    return x._replace(window=left, look=look, rest_steps=rest_steps)

  return jax.tree.map(refill, state, is_leaf=_is_state)


def _filled(tx, params, count: int = 24):
  """State and parameters after enough true gradients to fill any history."""

  @jax.jit
  def record(params, state):
    grads = jax.tree.map(lambda x: x + 0.1 * jnp.sin(x), params)
    updates, state = tx.update(grads, _with_steps_left(state, 0), params)
    return optax.apply_updates(params, updates), state

  state = tx.init(params)
  for _ in range(count):
    params, state = record(params, state)
  return params, state


def _history_bytes(state: Any, smallest: int) -> int:
  """Bytes of the parameter-sized buffers that only the predictor reads."""
  parts = jax.tree.leaves(state, is_leaf=_is_state)
  held = [(x.gradient_history, x.anchor.params) for x in parts if _is_state(x)]
  found = jax.tree.leaves(held)
  return sum(x.nbytes for x in found if x.size >= smallest)


def _bare_loop(base, count: int):
  def loop(params, state, grads):
    def body(_, carry):
      params, state = carry
      updates, state = base.update(grads, state, params)
      return optax.apply_updates(params, updates), state

    return lax.fori_loop(0, count, body, (params, state))

  return loop


def _bare_step(base):
  def step(params, state, grads):
    updates, state = base.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  return step


def _fast_forward(tx):
  def forward(params, state):
    return optax_predict.fast_forward(tx, params, _with_steps_left(state))

  return forward


def _fixed_count(tx):
  """The same steps, with a trip count that the compiler knows."""

  def forward(params, state):
    zeros, state = optax.tree.zeros_like(params), _with_steps_left(state)

    def predict(parts, updates, live, params):
      # Tied to the carry: a bfloat16 history is not to be widened once and kept.
      params, held = lax.optimization_barrier((params, state[0]))
      held = held._replace(window=live)
      forecast, held = predicting.predict_gradient(parts, held, params)
      return trees.cast_like(forecast, updates), held.window

    def body(_, carry):
      params, live, base_state = carry
      chain_state = (visit.Visit(predict, live), *base_state)
      updates, (live, *base_state) = tx.update(zeros, chain_state, params)
      params = optax.apply_updates(params, updates)
      return params, live.state, tuple(base_state)

    carry = params, state[0].window, state[1:]
    params, live, base_state = lax.fori_loop(0, STEPS, body, carry)
    return params, (state[0]._replace(window=live), *base_state)

  return forward


def _per_step(tx):
  def step(params, state):
    state = _with_steps_left(state)
    updates, state = tx.update(optax.tree.zeros_like(params), state, params)
    return optax.apply_updates(params, updates), state

  return step


def _true_gradient(tx, left: int):
  def step(params, state, grads):
    updates, state = tx.update(grads, _with_steps_left(state, left), params)
    return optax.apply_updates(params, updates), state

  return step


def _dear(step, base):
  """The step, with a gradient that the rest of ``_DEAR`` updates go into."""

  def dear(params, state, grads):
    loop = _bare_loop(base, _DEAR - 1)
    worked, _ = loop(grads, base.init(grads), grads)
    return step(params, state, worked)

  return dear


def _copied(tree):
  """Fresh buffers, since each program donates its own."""
  return jax.tree.map(jnp.copy, tree)


def measure(setting: Setting, rounds: int) -> list[dict]:
  """Every form of one setting, each against its own bare update."""
  tx, base = _optimizer(setting), _BASES[setting.base](_RATE)
  params, state = _filled(tx, _params(setting))
  grads = _copied(params)
  size = 4 * setting.parameters
  smallest = setting.parameters // setting.leaves
  bare_bytes = _BARE_BUFFERS[setting.base] * size
  floor = 1 + (_history_bytes(state, smallest) - size) / bare_bytes
  rows = []
  for form in _forms(tx, base, setting):
    carry = _copied((params, state))
    bare_carry = _copied((params, base.init(params)))
    is_fast = form.name == "fast_forward"
    passes = _steps_at_once(setting) if is_fast else 1
    given = () if form.is_predicted else (grads,)
    measured = timing.Program(form.ours, *carry, *given, donate=(0, 1))
    bare = timing.Program(form.theirs, *bare_carry, grads, donate=(0, 1))
    calls = {
      "ours": timing.Carried(measured, carry, *given, calls=form.calls),
      "bare": timing.Carried(bare, bare_carry, grads, calls=form.calls),
    }
    seconds = timing.interleaved(calls, rounds)
    steps = form.steps * form.calls
    medians = {k: statistics.median(v) / steps for k, v in seconds.items()}
    rows.append(
      {
        **setting._asdict(),
        "form": form.name,
        "bare_us": 1e6 * medians["bare"],
        "step_us": 1e6 * medians["ours"],
        "ratio": timing.ratio(seconds, "ours", "bare"),
        "floor": floor / passes if form.is_predicted else None,
        "bytes": floor * bare_bytes / passes if form.is_predicted else None,
        "host_reads": timing.host_reads(calls["ours"]) / steps,
        "compile_s": measured.compile_s,
        "bare_compile_s": bare.compile_s,
        "temp_copies": measured.temp_bytes / size,
        "copies": measured.copies(smallest),
      }
    )
  return rows


def main(argv: list[str] | None = None) -> None:
  """Measures every setting and writes one JSON file for this device."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.cost.step_cost")
  parser.add_argument("--sizes", nargs="+", type=float, default=[1, 4, 16])
  parser.add_argument("--leaves", nargs="+", type=int, default=[1, 50])
  parser.add_argument("--bases", nargs="+", default=["adam"])
  names = [*_FORECASTERS, _DEFAULT]
  parser.add_argument("--forecasters", nargs="+", default=names, choices=names)
  parser.add_argument("--histories", nargs="+", default=list(_HISTORIES))
  parser.add_argument("--flat", action="store_true", help="in optax.flatten")
  parser.add_argument("--rounds", type=int, default=9)
  parser.add_argument("--keep", action="store_true", help="and add to it")
  parser.add_argument("--results", type=pathlib.Path, default=_RESULTS)
  arguments = parser.parse_args(argv)
  made, rows = environment.describe(), []
  made["bytes_per_second"] = timing.bandwidth()
  file = arguments.results / f"step_cost_{environment.slug(made)}.json"
  if arguments.keep and file.exists():
    rows = json.loads(file.read_text())["rows"]
  for forecaster, base, leaves, size, history in itertools.product(
    arguments.forecasters,
    arguments.bases,
    arguments.leaves,
    arguments.sizes,
    arguments.histories,
  ):
    parameters = round(size * 1e6) // leaves * leaves
    setting = Setting(
      forecaster, base, leaves, parameters, history, arguments.flat
    )
    measured = measure(setting, arguments.rounds)
    rows += measured
    for row in measured:
      print(*setting, row["form"], f"{row['ratio']:.2f}", flush=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"made": made, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
  main()
