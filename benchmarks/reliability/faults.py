"""What goes wrong in real training loops, injected into a small run.

A case is three integers: which fault, from which call, for how many calls. All
cases of an optimizer run in one program.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_predict

SIZE = 12
CALLS = 80
# Calls at which a fault begins: windows grow up to their full length by then.
POSITIONS = tuple(range(13))
LENGTHS = (1, 5)

_CURVATURES = np.logspace(-2, 0, SIZE, dtype=np.float32)
_START = np.linspace(-3, 3, SIZE, dtype=np.float32)


class Case(NamedTuple):
  """Which fault, and when; arrays of the same shape.

  Attributes:
    fault: index into ``names()``, ``int32``.
    first: call at which it begins, ``int32``.
    length: calls it lasts, of a gradient that is replaced; ``int32``.
  """

  fault: Any
  first: Any
  length: Any


class Trace(NamedTuple):
  """What happened, by call.

  Attributes:
    losses: at the point where the gradient was taken, ``[CALLS]``.
    predicted_steps: optimizer steps without a gradient so far, ``[CALLS]``.
    is_finite: whether parameters and state were finite, ``[CALLS]``.
  """

  losses: jax.Array
  predicted_steps: jax.Array
  is_finite: jax.Array


def _replaced(value):
  return lambda g, last: jnp.full_like(g, value)


def _one(value):
  return lambda g, last: g.at[1].set(value)


# (gradient, last good gradient) -> gradient.
GRADIENTS: dict[str, Callable[..., jax.Array]] = {
  "none": lambda g, last: g,
  "one NaN": _one(jnp.nan),
  "all NaN": _replaced(jnp.nan),
  "one Inf": _one(jnp.inf),
  "all -Inf": _replaced(-jnp.inf),
  "one 1e38": _one(1e38),
  "all 1e38": _replaced(1e38),
  "one 1e18": _one(1e18),
  "all 1e-40": _replaced(1e-40),
  "times 1e-30": lambda g, last: 1e-30 * g,
  "zero": lambda g, last: 0 * g,
  "sign flipped": lambda g, last: -g,
  "frozen": lambda g, last: last,
  "times 1e6": lambda g, last: 1e6 * g,
  "shuffled": lambda g, last: g[::-1],
}
# parameters -> parameters, at the one call at which it begins.
PARAMETERS: dict[str, Callable[..., jax.Array]] = {
  "projected": lambda x: jnp.clip(x, -0.5, 0.5),
  "averaged with the start": lambda x: 0.5 * (x + _START),
  "restored from the start": lambda x: jnp.asarray(_START),
  "thrown far": lambda x: x + 100.0,
}
# A factor on the rate, or another problem, from the call on at which it begins.
RATES: dict[str, float] = {"rate / 10": 0.1, "rate x 1.5": 1.5}
PROBLEMS: dict[str, float] = {"other batch": 1.0, "other curvature": -1.0}
# Calls for which gradients are of a smaller batch, and then of all data again: noise
# of the gradient's own length. Some predictors rest by then, others do not.
NOISE: dict[str, int] = {"30 calls of noise": 30}
# What of the optimizer's state begins anew.
RESETS = ("optimizer begins anew", "base begins anew", "predictor begins anew")


def names() -> list[str]:
  """All faults, in the order of their numbers."""
  return [*GRADIENTS, *PARAMETERS, *RATES, *PROBLEMS, *NOISE, *RESETS]


def durations() -> list[int]:
  """Calls that each fault lasts; 0 where the case says so."""
  return [0 if name in GRADIENTS else NOISE.get(name, 1) for name in names()]


def cases(positions=POSITIONS, lengths=LENGTHS) -> Case:
  """Every fault at every position; gradient faults in every length.

  Returns:
    A :class:`Case` of arrays ``[n]``.
  """
  rows = [
    (number, first, length)
    for number, name in enumerate(names())
    for first in positions
    for length in (lengths if name in GRADIENTS else lengths[:1])
  ]
  return Case(*np.array(rows, np.int32).T)


def loss(x: jax.Array, shift: jax.Array) -> jax.Array:
  """A convex bowl with a wall a hundred times as steep as it is.

  Args:
    x: parameters, ``[SIZE]``.
    shift: 0; where the minimum moves to, or -1 for other curvatures.
  """
  curvatures = jnp.where(shift < 0, _CURVATURES[::-1], _CURVATURES)
  bowl = 0.5 * jnp.sum(curvatures * (x - jnp.maximum(shift, 0)) ** 2)
  return bowl + 10 * jax.nn.relu(-1.5 - x[1])


def guarded(
  base: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """An optimizer that survives every fault by itself.

  The usual two: clipping, and leaving out updates that are not finite.
  """
  clipped = optax.chain(optax.clip_by_global_norm(10.0), base)
  return optax.apply_if_finite(clipped, max_consecutive_errors=100)


def run(
  make: Callable[[Any], optax.GradientTransformation],
  rate: float,
  case: Case,
  forecaster: optax_predict.Forecaster | None = None,
  predicts: bool = True,
) -> Trace:
  """One run with a fault in it; traceable, so that cases can be mapped over.

  Args:
    make: from a learning rate to the base optimizer.
    rate: learning rate.
    case: scalars.
    forecaster: default the library's.
    predicts: without it the base runs alone.
  """

  def optimizer(factor):
    base = guarded(make(rate * factor))
    if not predicts:
      return optax.chain(optax.identity(), base)
    return optax.chain(optax_predict.predict_gradients(forecaster), base)

  fresh = optimizer(1.0).init(jnp.asarray(_START))

  def step(carry, call):
    x, state, last = carry
    has_begun = call >= case.first
    begins = call == case.first
    lasts = has_begun & (call < case.first + case.length)
    x = _where(begins, _changed(case, PARAMETERS, x), x)
    state = _where(begins, _reset(case, state, fresh), state)
    shift = jnp.where(has_begun, _number(case, PROBLEMS, 0.0), 0.0)
    factor = jnp.where(has_begun, _number(case, RATES, 1.0), 1.0)
    value, good = jax.value_and_grad(loss)(x, shift)
    gradient = _where(lasts, _changed(case, GRADIENTS, good, last), good)
    is_noisy = has_begun & (call < case.first + _number(case, NOISE, 0))
    gradient += jnp.where(is_noisy, jnp.linalg.norm(good), 0) * _noise(call)
    tx = optimizer(factor)
    updates, state = tx.update(gradient, state, x)
    x = optax.apply_updates(x, updates)
    predicted = jnp.zeros([], jnp.int32)
    if predicts:
      x, state = optax_predict.fast_forward(tx, x, state)
      predicted = optax_predict.get_stats(state).predicted_steps
    trace = Trace(value, predicted, _is_finite((x, state)))
    return (x, state, _where(lasts, last, good)), trace

  carry = (jnp.asarray(_START), fresh, jnp.zeros(SIZE))
  return jax.lax.scan(step, carry, jnp.arange(CALLS))[1]


def _noise(call):
  """A vector of length 1 about, another at each call."""
  key = jax.random.fold_in(jax.random.key(0), call)
  return jax.random.normal(key, SIZE) / SIZE**0.5


def _where(condition, new, old):
  return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _changed(case, options, value, *others):
  """The value after the case's fault, or as it is if that is none of these."""

  def unchanged(value, *others):
    del others
    return value

  branches = [options.get(name, unchanged) for name in names()]
  return jax.lax.switch(case.fault, branches, value, *others)


def _number(case, options, default):
  numbers = [options.get(name, default) for name in names()]
  return jnp.asarray(numbers, jnp.float32)[case.fault]


def _reset(case, state, fresh):
  """Parts of the state as after ``init``: (predictor, base)."""
  which = case.fault - names().index(RESETS[0])
  predictor = _where((which == 0) | (which == 2), fresh[0], state[0])
  base = _where((which == 0) | (which == 1), fresh[1], state[1])
  return predictor, base


def _is_finite(tree):
  leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))
