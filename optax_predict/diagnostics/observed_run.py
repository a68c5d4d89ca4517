"""An optimizer's own run, observed step by step."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.forms import predictor_states

# Points of the run at which the gradient is also taken on a second batch.
_NOISE_PROBES = 10


class ObservedRun:
  """The optimizer's own run, step by step, and its losses and noise."""

  def __init__(self, loss_fn, params, optimizer, batches, has_aux):
    # Two programs, so that whoever reads the gradients between them changes neither
    # how they are compiled nor how they round.
    self._gradient = jax.jit(_value_and_direction(loss_fn, has_aux))
    self._tx = optax.with_extra_args_support(optimizer)
    self._batches = None if batches is None else iter(batches)
    self._has_aux = has_aux
    self.params, self.opt_state = params, self._tx.init(params)
    leaves = jax.tree.leaves(self.opt_state, is_leaf=predictor_states.is_state)
    if any(map(predictor_states.is_state, leaves)):
      raise ValueError(
        "the optimizer has predict_gradients in it. Pass the optimizer alone:"
        " its own gradients are what is measured."
      )
    self.losses: list[Any] = []
    self._noise: list[Any] = []

  def trajectory(self, steps: int) -> Iterator[tuple[Any, Any]]:
    """Yields ``(params, gradients)``; the state follows one step behind."""
    update = jax.jit(self._update)
    every = -(-steps // _NOISE_PROBES)
    batch = self._next_batch(0, steps)
    for i in range(steps):
      params = self.params
      value, gradients = self._gradient(params, *batch)
      loss = value[0] if self._has_aux else value
      self.params, self.opt_state = update(
        gradients, self.opt_state, params, loss
      )
      self.losses.append(loss)
      yield params, gradients
      if i + 1 < steps:
        batch = self._next_batch(i + 1, steps)
        if batch and i % every == 0:
          _, other = self._gradient(params, *batch)
          self._noise.append(_squares(gradients, other))

  def _update(self, gradients, opt_state, params, loss):
    updates, opt_state = self._tx.update(
      gradients, opt_state, params, value=loss
    )
    return optax.apply_updates(params, updates), opt_state

  def _next_batch(self, i, steps):
    if self._batches is None:
      return ()
    try:
      return (next(self._batches),)
    except StopIteration:
      raise ValueError(
        f"batches ended after {i} of {steps} steps. Pass one batch per step, or"
        " fewer steps."
      ) from None

  def noise(self) -> float:
    """Least relative error of any forecaster; 0 when batches agree."""
    if not self._noise:
      return 0.0
    difference, total = np.median(np.array(self._noise, np.float64), axis=0)
    return float(np.sqrt(difference / total)) if total > 0 else 0.0


def _value_and_direction(loss_fn, has_aux):
  """``jax.value_and_grad`` with complex gradients conjugated, to point uphill."""
  value_and_grad = jax.value_and_grad(loss_fn, has_aux=has_aux)

  def conjugated(*args):
    value, gradients = value_and_grad(*args)
    return value, jax.tree.map(
      lambda g: jnp.conj(g) if jnp.iscomplexobj(g) else g, gradients
    )

  return conjugated


@jax.jit
def _squares(a, b):
  """``|a - b|^2`` and ``|a|^2 + |b|^2``."""
  d = optax.tree.sub(jax.tree.map(trees.widen, a), jax.tree.map(trees.widen, b))
  dd, aa, bb = reductions.inner_products([(d, d), (a, a), (b, b)])
  return dd, aa + bb
