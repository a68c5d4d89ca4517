"""True gradients only, at first."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import interfaces


class WarmupState(NamedTuple):
  """State of the warm-up.

  Attributes:
    true_gradients: seen so far, ``int32[]``, counted up to the warm-up's end.
    then: state of the horizon that follows.
  """

  true_gradients: jax.Array
  then: Any


def warmup(steps: int, then: interfaces.Horizon) -> interfaces.Horizon:
  """Predicts nothing for the first true gradients, then as another horizon.

  After each of the first ``steps`` true gradients the next step has a true
  gradient too; ``then`` sees the first after them and all that follow. With
  ``warmup(3, fixed(prediction_steps=4))`` a run reads ``AAA A....A....A`` (A: a
  true gradient, a dot: a predicted one). A gradient that is not finite is not
  counted. The limits on a window are those of ``then``.

  For runs that begin with something that predictions would only follow, such as
  a learning rate that is being raised. Forecasters learn meanwhile.

  Args:
    steps: true gradients without prediction, at least 1.
    then: the horizon that follows.

  Returns:
    A :class:`Horizon`.

  Raises:
    TypeError: if ``then`` is no :class:`Horizon`.
    ValueError: if ``steps`` is no integer or below 1.

  Examples:
    >>> from optax_predict import horizons
    >>> horizon = horizons.warmup(100, horizons.adaptive())
  """
  length = checks.check_count("steps", steps)
  checks.check_instance(
    "then", then, interfaces.Horizon, "optax_predict.horizons"
  )

  def init():
    return WarmupState(jnp.zeros([], jnp.int32), then.init())

  def update(error, state):
    is_over = state.true_gradients >= length
    count, followed = then.update(error, state.then)
    followed = jax.tree.map(
      lambda new, old: jnp.where(is_over, new, old), followed, state.then
    )
    seen = jnp.minimum(state.true_gradients + 1, length)
    return jnp.where(is_over, count, 0), WarmupState(seen, followed)

  inner = then.trust
  trust = None if inner is None else lambda state: inner(state.then)
  return then._replace(init=init, update=update, trust=trust)
