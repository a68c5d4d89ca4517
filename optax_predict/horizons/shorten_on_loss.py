"""Shorter windows where the loss rose over the last one."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import interfaces


class ShortenOnLossState(NamedTuple):
  """State of the wrapper.

  Attributes:
    has_loss: 1 once a finite loss was seen, ``int32[]``.
    last_loss: at the last true gradient with a finite loss, ``float32[]``.
    shortenings: how often the factor applies to a window now, ``int32[]``.
    then: state of the wrapped horizon.
  """

  has_loss: jax.Array
  last_loss: jax.Array
  shortenings: jax.Array
  then: Any


def shorten_on_loss(
  then: interfaces.Horizon, factor: float = 0.5, tolerance: float = 0.0
) -> interfaces.Horizon:
  r"""Shortens another horizon's windows while they make the loss rise.

  The forecast error says how well a gradient was predicted, not whether the
  steps on it were good ones. Here the loss at a true gradient is compared with
  the one at the true gradient before, where a window lay between them:

  .. math::

    k = \lfloor k_\mathrm{then} \, \mathrm{factor}^n \rfloor, \quad
    n \leftarrow \begin{cases}
      n + 1 & \text{if it rose over a window,} \\
      \max(n - 1, 0) & \text{if it did not rise}
    \end{cases}

  and such a rise counts as a stopped window for ``then``, so that no good forecast
  makes it grow. A rise without a window changes nothing. A loss that is not finite has
  risen, and is not compared with.

  The loss comes with the gradient: ``tx.update(grads, state, params,
  value=loss)``. It must be one that should fall: on minibatches it rises every
  other time, and optimizers with momentum may overshoot; ``tolerance`` is for
  those.

  Args:
    then: the horizon whose windows are shortened.
    factor: :math:`\in (0, 1)`.
    tolerance: how much the loss may rise, relative to its last absolute value,
      0 or more.

  Returns:
    A :class:`Horizon`; its ``update`` raises a ValueError where the loss is
    missing or no scalar.

  Raises:
    TypeError: if ``then`` is no :class:`Horizon`.
    ValueError: if ``factor`` or ``tolerance`` is outside its range.

  Examples:
    >>> from optax_predict import horizons
    >>> horizon = horizons.shorten_on_loss(horizons.adaptive())
  """
  checks.check_instance(
    "then", then, interfaces.Horizon, "optax_predict.horizons"
  )
  checks.check_number("factor", factor, 0.0, 1.0, closed=False)
  checks.check_number("tolerance", tolerance, 0.0)

  def init():
    return ShortenOnLossState(
      has_loss=jnp.zeros([], jnp.int32),
      last_loss=jnp.zeros([], jnp.float32),
      shortenings=jnp.zeros([], jnp.int32),
      then=then.init(),
    )

  def update(error, state):
    if error.loss is None:
      raise ValueError(
        "shorten_on_loss needs the loss, got None. Call"
        " update(gradients, state, params, value=loss)."
      )
    if error.loss.ndim:
      raise ValueError(
        "shorten_on_loss needs the loss as a scalar, got value of shape"
        f" {error.loss.shape}. Pass its mean or sum."
      )
    loss = error.loss.astype(jnp.float32)
    allowed = state.last_loss + tolerance * jnp.abs(state.last_loss)
    # So written, a NaN has risen.
    rose = (state.has_loss > 0) & ~(loss <= allowed)
    is_harm = rose & (error.window_steps > 0)
    stopped = jnp.where(is_harm, 1, error.window_stopped).astype(jnp.int32)
    steps, followed = then.update(
      error._replace(window_stopped=stopped), state.then
    )
    eased = jnp.where(rose, state.shortenings, state.shortenings - 1)
    count = jnp.where(is_harm, state.shortenings + 1, jnp.maximum(eased, 0))
    is_finite = jnp.isfinite(loss)
    share = factor ** count.astype(jnp.float32)
    shortened = jnp.floor(share * steps.astype(jnp.float32)).astype(jnp.int32)
    return shortened, ShortenOnLossState(
      has_loss=jnp.where(is_finite, 1, state.has_loss),
      last_loss=jnp.where(is_finite, loss, state.last_loss),
      shortenings=count,
      then=followed,
    )

  return then._replace(
    init=init,
    update=update,
    trust=interfaces.of_inner(then.trust),
    reach=interfaces.of_inner(then.reach),
    rest=interfaces.of_inner(then.rest),
  )
