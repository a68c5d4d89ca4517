"""Runs of optax optimizers, and the tuning of their rate."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import time
from typing import Any

import jax
import numpy as np
import optax

from optax_predict.demo.comparison.recording import final_loss
from optax_predict.demo.comparison.recording import gradients_to
from optax_predict.demo.comparison.recording import Notes
from optax_predict.demo.comparison.recording import Run
from optax_predict.demo.comparison.recording import strong

# Types in an optimizer's state may take a few calls to settle.
_WARM_UP = 3


def many(tx: optax.GradientTransformation) -> optax.GradientTransformation:
  """The optimizer for parameters that have a leading axis of starts."""
  return optax.GradientTransformation(
    jax.vmap(tx.init), jax.vmap(lambda g, s, p: tx.update(g, s, p))
  )


def run_optax(
  name: str,
  tx: optax.GradientTransformation,
  value_and_grad: Callable[..., Any],
  params: Any,
  num_gradients: int,
  *,
  metric: Callable[[Any], Any] | None = None,
  inputs: Any = None,
) -> Run:
  """One compiled update per true gradient; ends early at a loss not finite.

  Args:
    name: for tables and plots.
    tx: the optimizer.
    value_and_grad: of the loss.
    params: where to start.
    num_gradients: how many true gradients.
    metric: of the parameters, a number to record.
    inputs: a tree with a leading axis of gradients, such as random keys; each
      call of ``value_and_grad`` gets its slice as the second argument.
  """
  train = _compile_one(tx, value_and_grad, metric)
  return train(name, 0.0, params, num_gradients, inputs)


def tune(
  name: str,
  make_tx: Callable[[Any], optax.GradientTransformation],
  rates: Sequence[float],
  value_and_grad: Callable[..., Any],
  params: Any,
  num_gradients: int,
  *,
  target: Any = -np.inf,
  metric: Callable[[Any], Any] | None = None,
  known: Mapping[float, Run] | None = None,
) -> tuple[Run, dict[float, Run]]:
  """Runs ``make_tx(rate)`` for every rate, compiled once.

  Returns the run with the fewest true gradients to the target, or where none
  gets there the lowest loss, and all runs by rate, with those known before.
  """
  train = _compile(make_tx, value_and_grad, metric)
  runs = dict(known or {}) | {
    rate: train(f"{name}, {rate:.2g}", rate, params, num_gradients)
    for rate in rates
  }

  def cost(run):
    return gradients_to(run, target), np.median(final_loss(run))

  return min(runs.values(), key=cost), runs


@functools.lru_cache(maxsize=8)
def _compile_one(tx, value_and_grad, metric):
  """The same optimizer again, for fewer gradients say, is not compiled anew."""
  return _compile(lambda _: tx, value_and_grad, metric)


def _compile(make_tx, value_and_grad, metric):
  """A training loop whose learning rate is an argument of its one program."""

  @jax.jit
  def step(rate, params, opt_state, more):
    loss, grads = value_and_grad(params, *more)
    updates, opt_state = make_tx(rate).update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  @jax.jit
  def init(rate, params):
    return make_tx(rate).init(params)

  def train(name, rate, params, num_gradients, inputs=None):
    def more(i):
      return [] if inputs is None else [jax.tree.map(lambda x: x[i], inputs)]

    before = time.perf_counter()
    params = strong(params)
    opt_state = init(rate, params)
    warm = params, opt_state
    for _ in range(_WARM_UP):
      warm = jax.block_until_ready(step(rate, *warm[:2], more(0)))
    compile_seconds = time.perf_counter() - before
    notes = Notes(metric)
    for i in range(num_gradients):
      at = params
      params, opt_state, loss = step(rate, params, opt_state, more(i))
      loss = np.asarray(jax.block_until_ready((loss, params))[0])
      notes.loss(loss)
      notes.params(at, loss)
      if not np.any(np.isfinite(loss)):
        break
    return notes.run(name, compile_seconds)

  return train
