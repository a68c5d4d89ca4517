"""A set cycle of true, predicted and correcting steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import interfaces


class PhasesState(NamedTuple):
  """State of the cycle.

  Attributes:
    position: true gradients since the cycle began, ``int32[]``.
  """

  position: jax.Array


def phases(
  full_steps: int = 10, predict_steps: int = 40, correct_every: int = 10
) -> interfaces.Horizon:
  """Full, predicted and correcting steps in turns, whatever the forecasts.

  A cycle has ``full_steps`` true gradients one after another and then
  ``predict_steps`` predicted steps, interrupted by one true gradient after every
  ``correct_every`` of them. The next cycle's first true gradient corrects the
  last stretch, which is shorter where the numbers do not divide. A run begins
  with a cycle, so ``full_steps`` is also its warm-up. (A: a true gradient, a
  dot: a predicted one.)

  - ``phases(3, 6, 3)``: ``AAA...A...`` ``AAA...A...`` ``AAA``
  - ``phases(2, 5, 2)``: ``AA..A..A.`` ``AA..A..A.`` ``AA``
  - ``phases(1, 4, 4)``: ``A....`` ``A....`` ``A``

  A correcting gradient enters the history, and what it says of the steps before
  it is added to it where ``correction_weight`` is set. Only a forecast that is
  not finite ends a stretch early; the cycle then goes on from there. Updates are
  not limited. Put it after :func:`warmup` for a longer one.

  Args:
    full_steps: true gradients that a cycle begins with, at least 1.
    predict_steps: predicted steps in a cycle, at least 1.
    correct_every: predicted steps between two true gradients, at least 1; as
      many as ``predict_steps`` or more for no correction within them.

  Returns:
    A :class:`Horizon`.

  Raises:
    ValueError: if an argument is no integer or below 1.

  Examples:
    >>> from optax_predict import horizons
    >>> horizon = horizons.warmup(50, horizons.phases(5, 40, 10))

  References:
    The phase trainer of the Rust package this library started from.
  """
  full = checks.check_count("full_steps", full_steps)
  predicted = checks.check_count("predict_steps", predict_steps)
  stretch = checks.check_count("correct_every", correct_every)
  stretches = -(-predicted // stretch)
  last = predicted - (stretches - 1) * stretch
  cycle = full + stretches - 1

  def init():
    return PhasesState(jnp.zeros([], jnp.int32))

  def update(error, state):
    del error
    at = state.position
    steps = jnp.where(at == cycle - 1, last, stretch)
    steps = jnp.where(at < full - 1, 0, steps).astype(jnp.int32)
    return steps, PhasesState((at + 1) % cycle)

  return interfaces.Horizon(init, update)
