"""What was evaluated, written down at the moment it happens."""

from collections.abc import Callable
from typing import Any

import jax
from jax import custom_derivatives
from jax import experimental
import jax.numpy as jnp


class BudgetSpentError(Exception):
  """Ends a minimiser's loop from inside the function it minimises."""


class Ledger:
  """Losses with a gradient, and how many there were without.

  Attributes:
    losses: at every true gradient, in order.
    forward_only: evaluations of the loss alone.
  """

  def __init__(self):
    self.clear()

  def clear(self) -> None:
    """Begins anew."""
    self.losses: list[float] = []
    self.forward_only = 0
    self._last = float("nan")

  def with_gradient(self, loss) -> None:
    """Notes a loss and its gradient."""
    self.losses.append(float(loss))

  def without_gradient(self, loss) -> None:
    """Notes a loss of which nobody has asked for the gradient yet."""
    self.forward_only += 1
    self._last = float(loss)

  def gradient_followed(self) -> None:
    """Notes that the pass back through the last such loss was made."""
    self.forward_only -= 1
    self.with_gradient(self._last)


def _note(where: Callable[..., None], *values) -> None:
  experimental.io_callback(where, None, *values, ordered=True)


def counted(
  loss: Callable[[Any], jax.Array], ledger: Ledger
) -> Callable[[Any], jax.Array]:
  """The loss, writing into the ledger each time the device evaluates it.

  The gradient is taken inside the forward rule, so that one pass forward and
  back is one entry wherever a line search differentiates.
  """

  @jax.custom_vjp
  def loss_fn(x):
    value = loss(x)
    _note(ledger.without_gradient, value)
    return value

  def forward(x):
    value, gradient = jax.value_and_grad(loss)(x)
    _note(ledger.with_gradient, value)
    return value, gradient

  loss_fn.defvjp(forward, lambda gradient, cotangent: (cotangent * gradient,))
  return loss_fn


def counted_linear(
  loss: Callable[[jax.Array], jax.Array], ledger: Ledger
) -> Callable[[jax.Array], jax.Array]:
  """The same for what linearizes first and goes back only where it accepts.

  The pass forward is noted where the loss comes out, the pass back where the
  cotangent arrives at the parameters; neither is made a second time.
  """

  def passed_forward(value):
    ledger.without_gradient(value)
    return value

  @jax.custom_jvp
  def leave(value):
    # What decides on the pass back hangs on this value, so that it is noted first.
    kind = jax.ShapeDtypeStruct(value.shape, value.dtype)
    return experimental.io_callback(passed_forward, kind, value, ordered=True)

  leave.defjvp(lambda values, tangents: (leave(*values), *tangents))

  @jax.custom_jvp
  def enter(x):
    return x

  def passed_back(cotangent):
    ledger.gradient_followed()
    return cotangent

  def back(_, cotangent):
    # It returns what it was given, so that it is not left out as unused; an
    # ordered effect cannot stand inside a linear call.
    kind = jax.ShapeDtypeStruct(cotangent.shape, cotangent.dtype)
    return experimental.io_callback(passed_back, kind, cotangent)

  @enter.defjvp
  def _(values, tangents):
    follow = custom_derivatives.linear_call(
      lambda _, tangent: tangent, back, jnp.zeros(()), *tangents
    )
    return enter(*values), follow

  return lambda x: leave(loss(enter(x)))
