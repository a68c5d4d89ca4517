"""What a predictor inside an optimizer is to do in one call.

A caller that owns the whole optimizer (:func:`fast_forward`, :func:`check_chain`)
has no handle on the predictor in it. It puts a :class:`Visit` in the place of the
predictor's state. Every wrapper hands states on, whatever it does with arguments.
"""

from collections.abc import Callable
from typing import Any

import jax

from optax_predict.engine.parts import Parts
from optax_predict.forms import predictor_states

Act = Callable[[Parts, Any, Any, Any], tuple[Any, Any]]


@jax.tree_util.register_pytree_node_class
class Visit:
  """In the place of a predictor's state, for one call of ``update``.

  Attributes:
    act: ``act(parts, updates, state, params) -> (updates, state)``, called instead
      of the predictor's own update.
    state: the state that ``act`` is given.
  """

  def __init__(self, act: Act, state: Any):
    self.act, self.state = act, state

  def tree_flatten(self):
    """The state alone is data."""
    return (self.state,), self.act

  @classmethod
  def tree_unflatten(cls, act, children):
    """The inverse of ``tree_flatten``."""
    return cls(act, *children)

  def __call__(
    self, parts: Parts, updates: Any, params: Any
  ) -> tuple[Any, "Visit"]:
    """Acts, and stays where it is."""
    updates, state = self.act(parts, updates, self.state, params)
    return updates, Visit(self.act, state)


def send(act: Act, opt_state: Any) -> Any:
  """Puts a visit of each predictor in the place of its state."""
  return predictor_states.map_states(lambda s: Visit(act, s), opt_state)


def collect(opt_state: Any) -> Any:
  """Puts what visits hold back in their places."""

  def is_visit(x):
    return isinstance(x, Visit)

  return jax.tree.map(
    lambda x: x.state if is_visit(x) else x, opt_state, is_leaf=is_visit
  )
