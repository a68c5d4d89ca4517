"""The methods, all of them always in the table.

A method is an optax optimizer and what it does after each true gradient. Its
step is compiled apart from the loss, for flat parameters and with the learning
rate as an argument: one compilation serves every rate and every task of the
same size. No method here looks at the boundaries between leaves, so a flat
vector changes nothing but the time to compile.
"""

from collections.abc import Callable
import functools
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import optax

import optax_predict

REPEATS = 4


class Method(NamedTuple):
  """One row of the table.

  Attributes:
    name: unique, as printed.
    base: name of the plain optimizer it is compared with.
    make: learning rate -> optimizer.
    after: what follows the update from a true gradient, `(tx, params, state,
      gradient) -> (params, state)`, evaluating no loss; None for nothing.
    rate_factor: for methods that are not tuned but run at this multiple of
      their base's best rate; None for tuned ones.
    has_drop_in: whether it is also run at its base's best rate.
  """

  name: str
  base: str
  make: Callable[[Any], optax.GradientTransformation]
  after: Callable[..., tuple[Any, Any]] | None = None
  rate_factor: float | None = None
  has_drop_in: bool = False


def _nesterov(rate):
  return optax.sgd(rate, momentum=0.9, nesterov=True)


def _heavy_ball(rate):
  return optax.sgd(rate, momentum=0.9)


BASES = {"sgd": optax.sgd, "momentum": _heavy_ball, "adam": optax.adam}


def _fast_forward(tx, params, state, gradient):
  del gradient
  return optax_predict.fast_forward(tx, params, state)


def _repeat(tx, params, state, gradient):
  """The last true gradient, REPEATS more times."""

  def body(_, carry):
    params, state = carry
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  return lax.fori_loop(0, REPEATS, body, (params, state))


def _predicting(base, rate):
  return optax.chain(optax_predict.predict_gradients(), base(rate))


def _accelerating(base, rate):
  return optax_predict.accelerate(base(rate))


def original_rule() -> dict[str, Any]:
  """Options of a predictor: the rule this library grew from, with its numbers."""
  return {
    "forecaster": optax_predict.forecasters.momentum(
      momentum=0.9, history_size=5
    ),
    "horizon": optax_predict.horizons.fixed(
      prediction_steps=REPEATS, min_correlation=0.8
    ),
    "correction_weight": 0.5,
  }


def _original(base, rate):
  return optax.chain(
    optax_predict.predict_gradients(**original_rule()), base(rate)
  )


def _methods() -> list[Method]:
  methods = [Method(name, name, make) for name, make in BASES.items()]
  methods += [
    Method("nesterov", "nesterov", _nesterov),
    Method("optimistic", "sgd", optax.optimistic_gradient_descent),
  ]
  for name, base in BASES.items():
    predicting = functools.partial(_predicting, base)
    original = functools.partial(_original, base)
    methods += [
      Method(f"{name}+predict", name, predicting, _fast_forward, None, True),
      Method(f"{name}+original", name, original, _fast_forward, None, True),
      Method(f"{name}+stale", name, base, _repeat),
      Method(f"{name}+rate", name, base, None, REPEATS + 1.0),
    ]
  return methods


METHODS = {method.name: method for method in _methods()}
# As a user has it who changes one line. `benchmarks.rates` runs these at rates
# that nobody tuned; they are no rows of the tuned table, where the same windows
# stand as "+predict".
ACCELERATED = {
  f"{name}+accelerate": Method(
    f"{name}+accelerate", name, functools.partial(_accelerating, base)
  )
  for name, base in BASES.items()
}
_COMPILED = METHODS | ACCELERATED
LINE_SEARCH = (
  "optax_lbfgs",
  "scipy_lbfgs",
  "optimistix_cg",
  "optimistix_bfgs",
  "ssbroyden",
)


def names() -> list[str]:
  """Every method, those with a line search last."""
  return [*METHODS, *LINE_SEARCH]


@functools.cache
def step(name: str) -> Callable[..., tuple[Any, Any]]:
  """The compiled `(rate, params, state, gradient) -> (params, state)`."""
  method = _COMPILED[name]

  @jax.jit
  def run(rate, params, state, gradient):
    tx = method.make(rate)
    updates, state = tx.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    if method.after is None:
      return params, state
    return method.after(tx, params, state, gradient)

  return run


@functools.cache
def init(name: str) -> Callable[[Any], Any]:
  """The compiled `params -> state`; the rate is not part of any state."""
  return jax.jit(_COMPILED[name].make(0.0).init)
