"""Schedules that count true gradients, however many steps are predicted."""

from typing import Any

import jax
from optax import contrib
from optax import schedules

# What holds schedules beside the state of an optimizer.
_INJECTED = (
  schedules.InjectHyperparamsState,
  schedules.InjectStatefulHyperparamsState,
)


def hold_schedules(state: Any, like: Any) -> Any:
  """A base's state with the schedules where they are in ``like``.

  What is taken from ``like``: states that only count, which are those of
  schedules in optax (``scale_by_schedule``, a schedule of weight decay), the
  schedules and values of ``inject_hyperparams``, and
  ``contrib.reduce_on_plateau``, which watches the losses of true gradients. All
  else is of ``state``. Adam's count is: it corrects the bias of moments that every
  step has moved.
  """
  return jax.tree.map(_held, state, like, is_leaf=_is_schedule)


def _held(state, like):
  if isinstance(state, _INJECTED):
    return like._replace(
      inner_state=hold_schedules(state.inner_state, like.inner_state)
    )
  return like if _is_schedule(state) else state


def _is_schedule(x):
  if isinstance(x, (*_INJECTED, contrib.ReduceLROnPlateauState)):
    return True
  return isinstance(x, tuple) and getattr(x, "_fields", None) == ("count",)
