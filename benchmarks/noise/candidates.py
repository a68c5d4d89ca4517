"""What past true gradients might be good for under noise.

Each is an optax transformation, or a wrapper of one, with at most two more
copies of the parameters. None of them is part of the library: they are here to
be measured.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


def _mix(weight, a, b):
  """(1 - weight) a + weight b."""
  return jax.tree.map(lambda x, y: x + weight * (y - x), a, b)


def _minus(a, b):
  return jax.tree.map(jnp.subtract, a, b)


def _dot(a, b):
  products = jax.tree.map(jnp.vdot, a, b)
  return sum(jax.tree.leaves(products))


class CorrectionState(NamedTuple):
  """The last gradient; averages of its products; the inner state."""

  before: Any
  inner: jax.Array
  power: jax.Array
  count: jax.Array


def correct(weight: float | None, decay: float = 0.9):
  """G + c (g - g_before), the approximate correction of MARS (2411.10438).

  Without a weight c is the correlation of successive gradients, from 0 to 1:
  none under pure noise, and the whole step ahead without noise.
  """

  def init(params):
    zero = jnp.zeros([])
    zeros = jax.tree.map(jnp.zeros_like, params)
    return CorrectionState(zeros, zero, zero, jnp.zeros([], jnp.int32))

  def update(updates, state, params=None):
    del params
    first = state.count == 0
    before = jax.tree.map(
      lambda g, b: jnp.where(first, g, b), updates, state.before
    )
    inner = decay * state.inner + _dot(updates, state.before)
    power = decay * state.power + _dot(updates, updates)
    c = weight
    if c is None:
      c = jnp.clip(inner / jnp.maximum(power, 1e-30), 0.0, 1.0)
    corrected = _mix(-c, updates, before)
    state = CorrectionState(updates, inner, power, state.count + 1)
    return corrected, state

  return optax.GradientTransformation(init, update)


class AverageState(NamedTuple):
  """The base's state and averages of the parameters, one per horizon."""

  base: Any
  averages: tuple
  count: jax.Array


def average(base, horizons):
  """The base as it is, and beside it averages over the last steps.

  Exponential, with a mean in place of it until there are `horizon` steps.
  """

  def init(params):
    copies = tuple(params for _ in horizons)
    return AverageState(base.init(params), copies, jnp.zeros([], jnp.int32))

  def update(updates, state, params=None):
    updates, inner = base.update(updates, state.base, params)
    now = optax.apply_updates(params, updates)
    count = state.count + 1
    averages = tuple(
      _mix(1 / jnp.minimum(count, horizon), old, now)
      for horizon, old in zip(horizons, state.averages)
    )
    return updates, AverageState(inner, averages, count)

  return optax.GradientTransformation(init, update)


class PrimalState(NamedTuple):
  """The base's state, the raw iterate and the smooth one."""

  base: Any
  raw: Any
  smooth: Any


def primal_average(base, smoothing: float, mixing: float):
  """Generalized primal averaging (arXiv 2512.17131).

  Gradients are taken at y = mixing x + (1 - mixing) z; z takes the base's
  steps, x is an exponential average of z and what is evaluated.
  """

  def init(params):
    return PrimalState(base.init(params), params, params)

  def update(updates, state, params=None):
    steps, inner = base.update(updates, state.base, state.raw)
    raw = optax.apply_updates(state.raw, steps)
    smooth = _mix(1 - smoothing, state.smooth, raw)
    at = _mix(mixing, raw, smooth)
    return _minus(at, params), PrimalState(inner, raw, smooth)

  return optax.GradientTransformation(init, update)


class OuterState(NamedTuple):
  """The base's state, where the window began, and the outer momentum."""

  base: Any
  anchor: Any
  velocity: Any
  count: jax.Array


def outer_nesterov(base, every: int, rate: float, momentum: float):
  """A Nesterov step on the way of every window (DiLoCo with one worker)."""

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return OuterState(base.init(params), params, zeros, jnp.zeros([], int))

  def update(updates, state, params=None):
    updates, inner = base.update(updates, state.base, params)
    now = optax.apply_updates(params, updates)
    count = state.count + 1
    ends = count % every == 0
    way = _minus(now, state.anchor)
    velocity = jax.tree.map(lambda v, d: momentum * v + d, state.velocity, way)
    ahead = jax.tree.map(
      lambda a, d, v: a + rate * (d + momentum * v), state.anchor, way, velocity
    )
    choose = lambda new, old: jax.tree.map(  # noqa: E731
      lambda n, o: jnp.where(ends, n, o), new, old
    )
    new = OuterState(
      inner,
      choose(ahead, state.anchor),
      choose(velocity, state.velocity),
      count,
    )
    return _minus(choose(ahead, now), params), new

  return optax.GradientTransformation(init, update)


class LookaheadState(NamedTuple):
  """The state of `optax.lookahead` and its slow parameters."""

  base: Any
  slow: Any


def lookahead(base, every: int, rate: float):
  """`optax.lookahead` that keeps its slow parameters itself."""
  both = optax.lookahead(base, every, rate)

  def init(params):
    pair = optax.LookaheadParams(params, params)
    return LookaheadState(both.init(pair), params)

  def update(updates, state, params=None):
    pair = optax.LookaheadParams(params, state.slow)
    updates, inner = both.update(updates, state.base, pair)
    slow = optax.apply_updates(state.slow, updates.slow)
    return updates.fast, LookaheadState(inner, slow)

  return optax.GradientTransformation(init, update)


class TransportState(NamedTuple):
  """The base's state, the parameters and the transported gradient."""

  base: Any
  params: Any
  gradient: Any
  count: jax.Array


def transport(base, longest: float):
  """Implicit gradient transport (arXiv 1906.03532).

  The mean of gradients that were taken so far ahead that, with one Hessian, it
  is a mean of gradients at the parameters themselves.
  """

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return TransportState(
      base.init(params), params, zeros, jnp.zeros([], jnp.int32)
    )

  def update(updates, state, params=None):
    kept = jnp.minimum(state.count / (state.count + 1), longest)
    gradient = _mix(kept, updates, state.gradient)
    steps, inner = base.update(gradient, state.base, state.params)
    now = optax.apply_updates(state.params, steps)
    count = state.count + 1
    kept = jnp.minimum(count / (count + 1), longest)
    at = _mix(-kept / (1 - kept), now, state.params)
    new = TransportState(inner, now, gradient, count)
    return _minus(at, params), new

  return optax.GradientTransformation(init, update)


class SecantState(NamedTuple):
  """Where the estimate belongs, the estimate, and sums for its curvature."""

  point: Any
  estimate: Any
  change: jax.Array
  square: jax.Array
  count: jax.Array


def secant_variate(weight: float, decay: float = 0.95):
  """A model's gradient plus the average of what it was off by.

  The model is the last estimate plus one curvature, a secant over the last
  moves, times the move. Without curvature it is an average of gradients.
  """

  def init(params):
    zero = jnp.zeros([])
    zeros = jax.tree.map(jnp.zeros_like, params)
    return SecantState(params, zeros, zero, zero, jnp.zeros([], jnp.int32))

  def update(updates, state, params=None):
    move = _minus(params, state.point)
    first = state.count == 0
    known = jax.tree.map(
      lambda g, e: jnp.where(first, g, e), updates, state.estimate
    )
    change = decay * state.change + _dot(_minus(updates, known), move)
    square = decay * state.square + _dot(move, move)
    # What was learnt before this gradient: its noise must not choose.
    curvature = jnp.maximum(state.change, 0) / jnp.maximum(state.square, 1e-30)
    model = jax.tree.map(lambda e, d: e + curvature * d, known, move)
    estimate = _mix(weight, model, updates)
    new = SecantState(params, estimate, change, square, state.count + 1)
    return estimate, new

  return optax.GradientTransformation(init, update)
