"""The original rule: the last change of the gradient, carried on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.core import trees


class MomentumHistory(NamedTuple):
  """A ring of past true gradients.

  Attributes:
    observed: how many gradients were taken in, ``int32[]``. Once all n slots are
      full it is only kept modulo n. The newest gradient is in slot
      ``(observed - 1) % n``.
    slots: one tree like the parameters per slot.
  """

  observed: jax.Array
  slots: tuple[interfaces.PyTree, ...]


def momentum(
  momentum: float = 0.9, history_size: int = 2
) -> interfaces.Forecaster:
  r"""Extrapolates from the last two true gradients.

  .. math::

    \hat g = g_{-1} + \mu \, (g_{-1} - g_{-2})

  With one past gradient the forecast is that gradient. With none it is zero.
  The forecast stays the same through a window, because the rule looks at the order
  of the gradients only, not at how far the parameters have moved.

  Memory: ``history_size`` parameter-sized buffers. A predicted step reads all
  of them.

  Args:
    momentum: :math:`\mu`, between -1e6 and 1e6. 0 repeats the last gradient.
    history_size: true gradients to keep, at least 2. The rule uses the last two.
      More of them cost memory and change no forecast.

  Returns:
    A :class:`Forecaster`.

  Raises:
    ValueError: if ``momentum`` is out of range or ``history_size`` is below 2.

  Examples:
    >>> import jax.numpy as jnp
    >>> import optax_predict
    >>> rule = optax_predict.forecasters.momentum(momentum=0.5)
    >>> horizon = optax_predict.horizons.fixed(prediction_steps=4)
    >>> predictor = optax_predict.gradient_predictor(rule, horizon)
    >>> state = predictor.init(jnp.zeros(2))
    >>> state = predictor.record_gradient(jnp.array([1.0, 2.0]), state)
    >>> state = predictor.record_gradient(jnp.array([2.0, 2.0]), state)
    >>> gradients, state = predictor.predict_gradient(state)
    >>> print(gradients)
    [2.5 2. ]

  References:
    The Rust component ``GradientPredictor`` this library started from.
  """
  checks.check_number("momentum", momentum, -1e6, 1e6)
  size = checks.check_count("history_size", history_size, minimum=2)

  def init(params, dtype=None):
    slots = tuple(trees.zeros(params, dtype) for _ in range(size))
    return MomentumHistory(jnp.zeros([], jnp.int32), slots)

  def observe(gradients, history, motion, error):
    del motion, error
    write = history.observed % size

    slots = tuple(
      trees.where(write == i, gradients, slot)
      for i, slot in enumerate(history.slots)
    )
    return MomentumHistory(_next_count(history.observed, size), slots)

  def predict(history, motion):
    del motion
    first = history.slots[0]
    dtype = trees.tree_dtype(first)
    weights = _weights(history.observed, jnp.asarray(momentum, dtype), size)
    forecast = trees.combine(weights, history.slots)
    # It is finite, because the norms of both gradients are, by a wide margin.
    expected_error = jnp.zeros([], dtype)
    return interfaces.Forecast(trees.cast_like(forecast, first), expected_error)

  def recall(history):
    none = jnp.zeros([], trees.tree_dtype(history.slots[0]))
    newest = _weights(history.observed, none, size)
    return trees.combine(newest, history.slots)

  return interfaces.Forecaster(
    init,
    observe,
    predict,
    history_size=size,
    needs_look_ahead=False,
    recall=recall,
  )


def _next_count(observed, size):
  """Counts up to twice ``size``; from there on, modulo ``size``."""
  return jnp.where(observed < 2 * size, observed + 1, observed + 1 - size)


def _weights(observed, mu, size):
  """The rule's coefficient of each slot: 1 + mu, -mu, and 0 elsewhere."""
  mu = jnp.where(observed >= 2, mu, 0)
  newest, previous = (observed - 1) % size, (observed - 2) % size
  slots = jnp.arange(size)
  weights = jnp.where(slots == newest, 1 + mu, 0)
  return weights - jnp.where(slots == previous, mu, 0)
