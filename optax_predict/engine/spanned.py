"""A window of a linear base: its steps are taken on weights, not on parameters.

What SGD, with momentum or weight decay, does between two true gradients stays in the
span of few trees: those that forecasts are sums of, the base's buffers, and where the
parameters are. A step is then arithmetic of as many weights. The trees are read
where the window begins, for their inner products, and where it ends, for their sums.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_predict.core import elementwise
from optax_predict.core import linear
from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.engine import predicting
from optax_predict.engine import steps
from optax_predict.engine.parts import Parts
from optax_predict.engine.state import PredictState

# Fewer numbers are read at every step in the time that their weights would take.
_LEAST_NUMBERS = 2**15


def find_steps(
  parts: Parts,
  base_update: Callable[..., Any],
  params: Any,
  base_state: Any,
  state: PredictState,
) -> Callable[..., Any] | None:
  """``take_steps`` of a window on weights; ``None`` where that cannot be done.

  Arguments are those of ``run_window``. It can be done for a forecaster with a
  ``span`` and a base that is linear, of real parameters of one dtype, float32 or
  wider.
  """
  leaves = jax.tree.leaves(params)
  is_one_dtype = {x.dtype for x in leaves} == {trees.tree_dtype(params)}
  is_large = sum(x.size for x in leaves) >= _LEAST_NUMBERS
  if parts.forecaster.span is None or not (is_one_dtype and is_large):
    return None
  on_sums = linear.act_on_sums(
    base_update, (params, base_state, params), params
  )
  if on_sums is None:
    return None
  return reductions.in_full_precision(functools.partial(_take_steps, on_sums))


def _take_steps(on_sums, parts, base_update, params, base_state, state):
  del base_update  # Acts on weights here.
  span = parts.forecaster.span(state.gradient_history)
  anchor = state.anchor.params
  buffers: list[Any] = []
  elementwise.map_trees(buffers.append, base_state, params)
  first = len(span.trees)
  reads_params = on_sums.is_read[2]
  shares: list[Any] = [
    _is_near(b, anchor) if reads_params else 0.0 for b in buffers
  ]
  if reads_params:
    buffers = [
      trees.combine([jnp.ones([]), -share], [buffer, anchor])
      for share, buffer in zip(shares, buffers)
    ]
    buffers.append(anchor)
  summands = [*span.trees, trees.difference(params, anchor), *buffers]
  gram = _multiply_all(summands, span.products)
  units = jnp.eye(len(summands), dtype=gram.dtype)
  begin = units[first]
  origin = units[-1] if reads_params else jnp.zeros_like(begin)
  of_buffers = iter(
    [unit + x * origin for x, unit in zip(shares, units[first + 1 :])]
  )

  def norm(weights):
    return jnp.sqrt(jnp.maximum(weights @ gram @ weights, 0))

  def look(place, window):
    distance = norm(place)
    found = span.weigh((gram @ place)[:first], distance)
    gradients = found.on_motion * place
    gradients += jnp.pad(found.weights, (0, len(summands) - first))
    window = predicting.judge_forecast(
      parts, state._replace(window=window), distance, found.expected_error
    )
    fresh = steps.measure_freshness(norm(gradients), found.curvature, window)
    return window, gradients, fresh

  def step(gradients, place, base_weights, window):
    updates, base_weights = on_sums.apply(
      gradients, base_weights, origin + place
    )
    length = norm(updates)
    window = steps.count_step(length, window)
    return place + updates, base_weights, window, length

  weights = elementwise.map_trees(
    lambda _: next(of_buffers), base_state, params
  )
  place, weights, window, opened = steps.take_steps(
    look, step, jnp.zeros_like(begin), begin, weights, state.window
  )

  def add_up(weights, old):
    new = trees.combine(list(weights), summands)
    return trees.where(opened, new, old)

  moved = add_up(place - begin, trees.zeros(params))
  return (
    jax.tree.map(jnp.add, params, moved),
    elementwise.map_trees(
      lambda old, new: add_up(new, old), base_state, params, weights
    ),
    window,
    opened,
  )


def _is_near(buffer, anchor):
  """1 where a base keeps something like a copy of the parameters, else 0.

  What it keeps is then their difference: the length of a step, computed from inner
  products of what is a thousand times longer, would be rounding.
  """
  off, size = reductions.inner_products(
    [(trees.difference(buffer, anchor),) * 2, (buffer, buffer)]
  )
  return (off < size).astype(size.dtype)


def _multiply_all(summands, known):
  """Inner products of all trees with each other; of the first some are known."""
  old, count = len(known), len(summands)
  # One after the other those that share trees, which are then read once.
  pairs = [(i, j) for i in range(count) for j in range(max(i, old), count)]
  found = reductions.inner_products(
    [(summands[i], summands[j]) for i, j in pairs]
  )
  rows, columns = np.array(pairs).T
  gram = jnp.pad(known, (0, count - old)).astype(found.dtype)
  return gram.at[rows, columns].set(found).at[columns, rows].set(found)
