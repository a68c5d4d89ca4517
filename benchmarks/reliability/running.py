"""All problems at once: one program per optimizer."""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.reliability import families
import optax_predict

BASES = {
  "sgd": optax.sgd,
  "momentum": functools.partial(optax.sgd, momentum=0.9),
  "rmsprop": optax.rmsprop,
  "adam": optax.adam,
  "adamw": functools.partial(optax.adamw, weight_decay=1e-4),
  "lion": functools.partial(optax.lion, weight_decay=0.0),
}

Accelerate = Callable[
  [optax.GradientTransformation], optax.GradientTransformationExtraArgs
]


class Runs(NamedTuple):
  """One run per problem.

  Attributes:
    losses: at every true gradient, ``[budget, n]``.
    predicted_steps: taken in all, ``[n]``; zeros without prediction.
    is_finite: whether parameters and state ended finite, ``[n]``.
  """

  losses: np.ndarray
  predicted_steps: np.ndarray
  is_finite: np.ndarray


def runner(
  make: Callable[[Any], optax.GradientTransformation],
  accelerate: Accelerate | None,
  budget: int,
  chosen: Sequence[families.Family] = families.FAMILIES,
) -> Callable[..., Runs]:
  """Returns ``run(x, data, rates) -> Runs``, compiled once.

  Args:
    make: from a learning rate to an optimizer.
    accelerate: from that optimizer to one that predicts; ``None`` for it alone.
    budget: true gradients per run.
    chosen: the families that the problems are of.
  """

  def optimizer(rate):
    base = optax.with_extra_args_support(make(rate))
    return base if accelerate is None else accelerate(base)

  def step(x, state, value, gradient, rate):
    # The loss is for a horizon that looks at it; the default does not.
    updates, state = optimizer(rate).update(gradient, state, x, value=value)
    return optax.apply_updates(x, updates), state

  @jax.jit
  def run(x, data, rates):
    state = jax.vmap(lambda x, rate: optimizer(rate).init(x))(x, rates)

    def body(carry, call):
      x, state = carry
      value, gradient = families.value_and_grad(chosen, x, data, call)
      return jax.vmap(step)(x, state, value, gradient, rates), value

    calls = jnp.arange(budget)
    carry, values = jax.lax.scan(body, (x, state), calls)
    predicted = jnp.zeros(x.shape[0], int)
    if accelerate is not None:
      stats = jax.vmap(optax_predict.get_stats)(carry[1])
      predicted = stats.predicted_steps
    return values, predicted, jax.vmap(_is_finite)(carry)

  return lambda *args: Runs(*map(np.asarray, run(*args)))


def _is_finite(tree):
  leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))
