"""A window as long as the forecast is good: an ODE solver's step control."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.horizons.adaptive import resting

# Most true gradients that follow on a window that went wrong, and the share of
# that number another window leaves.
_LONGEST_PAUSE = 64.0
_FORGIVING = 0.5
# A window went badly where the gradient grew by more than this factor, or was
# forecast with a larger relative error. It takes this share of the trust; one
# that went well gives this share of what is missing. The rest is never lost.
_BAD_GROWTH = 1.1
_BAD_ERROR = 1.2
_LOST = 0.5
_GAINED = 0.4
_LEAST_TRUST = 1 / 3
# Where the gradient after a window still points down the way it went, by this
# cosine, the next is longer by at least this factor, if windows have earned this
# much trust.
_DOWNHILL = -0.1
_LEAST_GROWTH = 1.4
_TRUSTED = 0.35
# Most that one good forecast makes the next window grow by, as solvers of ODEs
# allow: 0.9 sqrt(0.8 / e) comes to it at a relative error of 0.01.
_MOST_GROWTH = 8.0
# With one gradient known the forecast is that gradient, or near it: its error grows
# as the way does, and comes to this in so many times the way. At most so many times.
_FIRST_ERROR = 0.2
_FIRST_GROWTH = 64.0
# No window is longer, so that an endless one still ends. Four times as many save hardly
# more but at a thousandth of a good rate.
_LONGEST = 4096
# Where a window led as far as so many updates like its first, each is short beside the
# way. A gradient that grew along it says that the way was too long, which its
# forecast's error says too, and not that the optimizer is unstable.
_MANY_UPDATES = 32


class AdaptiveState(NamedTuple):
  """State of the adaptive horizon.

  Attributes:
    length: predicted steps per window, before it is rounded down,
      ``float32[]``.
    worthless: forecasts since the last window that were worth nothing, less three
      for each that was not, ``int32[]``.
    rest: true gradients that the last rest lets through, ``int32[]``.
    is_tired: 1 where that rest begins now, if gradients are noise, ``int32[]``.
    doubts: times that they were not, since they last were, ``int32[]``.
    pause: true gradients before the next window may open, ``float32[]``.
    last_pause: the pause after the last window that went wrong, fading with
      each that did not, ``float32[]``.
    trust: earned by windows that went well, from 0 to 1, ``float32[]``.
    reach: how many times as far as the last move the next window may lead,
      ``float32[]``.
  """

  length: jax.Array
  worthless: jax.Array
  rest: jax.Array
  is_tired: jax.Array
  doubts: jax.Array
  pause: jax.Array
  last_pause: jax.Array
  trust: jax.Array
  reach: jax.Array


def adaptive(
  rtol: float = 0.8,
  max_steps: int | None = None,
  *,
  max_growth: float = 2.0,
  max_expected_error: float = 1.2,
  max_error: float | None = 3.0,
) -> interfaces.Horizon:
  r"""Grows the window while forecasts are good and shrinks it when they fail.

  At every true gradient the forecast that could have stood for it has a
  relative error :math:`e`. The window's length :math:`k` follows it as the step
  of an ODE solver follows its local error:

  .. math::

    k \leftarrow (k + 1) \, f - 1, \quad
      f = \mathrm{clip}\bigl(0.9 \sqrt{\mathrm{rtol} / e},\ 0.2,\ 8\bigr)

  from 0 to ``max_steps``, and is rounded down when used. It starts at 0, changes
  only after a window in which a step was predicted (or while it is below 1), and no
  error makes it grow after a window that was stopped. A forecast with an error of 0.2
  makes it less than twice as long, one with 0.01 eight times. At the second true
  gradient, where the forecast is no more than the first, its error has grown in
  proportion to the way: there :math:`f` is at least :math:`0.2 / e`, up to 64, which
  is what makes the start quick with a small learning rate.

  The same :math:`f` says how far the window may lead: :math:`f` times as far as the
  last move between true gradients, ``max_growth`` times at least. What is known of
  a way is known of places that far apart, however many steps it takes. Far below
  the learning rate at which the optimizer is unstable, forecasts are nearly exact
  and windows grow to hundreds of steps in a few gradients; near it they are not,
  and windows stay short. There is no other ceiling: a window is over where the
  forecaster expects an error that is too large (below), or where an update adds
  less than a ten-thousandth to the way. None opens where the last update was lost in
  rounding, as in a run that has converged.

  A window is too short, whatever the error, where the loss still falls along the
  way that it led: where the cosine between that way and the gradient at its end is
  below -0.1, and windows before it have earned a trust (below) above 0.35,
  :math:`k + 1` grows by a factor of at least 1.4. That is the condition by which a
  line search takes a step for too short (Wolfe).

  After a window that went wrong, to a gradient more than ``max_growth`` times the last,
  it is 0, and no window opens for twice as many true gradients as after the last such
  window, at most 64; each other window halves that number. One that led as far as 32
  updates like its first follows the error as ever: where each is so short beside the
  way, a gradient that grew does not mean that the optimizer is unstable.

  A window also ends where the forecaster expects a relative error above
  :math:`(1 + 2 t) / 3` of ``max_expected_error``, with the trust :math:`t` that
  windows have earned. It begins at 0, goes 0.4 of the way to 1 with each window
  that went well, and is halved by each that led to a gradient more than 1.1 times
  the last, or forecast with an error above 1.2.

  A window that led to a gradient whose forecast had an error larger than
  ``max_error``, or that is not finite, is taken back by :func:`fast_forward` and
  :func:`accelerate`: the parameters return to where its predicted steps began, and
  with ``accelerate`` the base's state too. The price is that one gradient, which is
  in the history, and with ``fast_forward`` has moved the optimizer's own state; a
  step from a true gradient always follows.

  A forecast :math:`\hat g` that is off by less than
  :math:`|g|` keeps a gradient step a descent step: for a step size up to
  :math:`1/L`, :math:`f_+ \le f - \tfrac{\eta}{2} (|g|^2 - |\hat g - g|^2)`.
  Where gradients keep their length that is :math:`e < 1`. Under minibatch noise
  the error stays near or above 1, the length falls to 0 and the base optimizer runs
  unchanged. After 20 forecasts with an error above 0.8 since the last window, less
  three for each better one, the predictor rests, to cost nothing, if gradients prove to
  be noise: 8 are let through unseen; after one more such forecast 16 are, and so
  on up to 512. A window begins that anew. Gradients that are no noise go on being
  recorded, and the next rest is asked for after 40 such forecasts, then 80, up to 320.
  Noise is told by how far the directions of the next four gradients are from that of
  the last one: all about as far, where each has noise of its own.

  Args:
    rtol: relative error to aim at, in (0, 1): a ratio of norms. Smaller
      predicts less.
    max_steps: longest window, in optimizer steps, at least 1; ``None`` for as long
      as forecasts are good, 4096 at most.
    max_growth: a window stops after an update that is longer than this many
      times the update from the last true gradient and than a quarter of the way
      that the window may lead; where forecasts have not earned more, that is this
      many times as far as the last move. A true gradient after a window that is more
      than this many times as long as the last is shortened to that; at least 1.
    max_expected_error: a window ends when the forecaster expects a larger
      relative error than this, or than a third of it before any trust is earned;
      above 0.
    max_error: a window is taken back where the forecast for the true gradient
      after it had a larger relative error than this; above 0. ``None``, for never,
      spares a parameter-sized buffer, which holds where the window began.

  Returns:
    A :class:`Horizon`.

  Raises:
    ValueError: if an argument is outside its range.

  Examples:
    >>> import optax_predict
    >>> horizon = optax_predict.horizons.adaptive(rtol=0.3, max_steps=16)

  References:
    Hairer, Norsett and Wanner, `Solving Ordinary Differential Equations I`,
    section II.4, for the controller; Nocedal and Wright, `Numerical
    Optimization`, 2006, section 3.1, for the Wolfe conditions; Carter, `On the global
    convergence of trust region algorithms using inexact gradient information
    <https://doi.org/10.1137/0728014>`_, 1991, for a relative error below 1.
  """
  checks.check_number("rtol", rtol, 0.0, 1.0, closed=False)
  longest = _LONGEST
  if max_steps is not None:
    longest = checks.check_count("max_steps", max_steps)
  checks.check_number("max_growth", max_growth, 1.0)
  checks.check_number(
    "max_expected_error", max_expected_error, 0.0, closed=False
  )

  if max_error is not None:
    checks.check_number("max_error", max_error, 0.0, closed=False)

  def init():
    def count():
      return jnp.zeros([], jnp.int32)

    def real():
      return jnp.zeros([], jnp.float32)

    return AdaptiveState(
      length=real(),
      worthless=count(),
      rest=count(),
      is_tired=count(),
      doubts=count(),
      pause=real(),
      last_pause=real(),
      trust=real(),
      reach=real(),
    )

  def update(error, state):
    k = state.length
    tiny = jnp.finfo(jnp.float32).tiny
    e = jnp.maximum(error.relative_error, tiny)
    factor = jnp.clip(0.9 * jnp.sqrt(rtol / e), 0.2, _MOST_GROWTH)
    first = jnp.minimum(_FIRST_ERROR / e, _FIRST_GROWTH)
    is_first = error.history_size <= 1
    factor = jnp.where(is_first, jnp.maximum(factor, first), factor)
    reach = jnp.maximum(factor, max_growth).astype(jnp.float32)
    factor = jnp.where(error.window_stopped > 0, jnp.minimum(factor, 1), factor)
    is_window = error.window_steps > 0
    is_trusted = state.trust > _TRUSTED
    is_short = is_window & is_trusted & (error.slope < _DOWNHILL)
    factor = jnp.where(is_short, jnp.maximum(factor, _LEAST_GROWTH), factor)
    changed = jnp.clip((k + 1) * factor - 1, 0, longest)
    is_known = error.history_size >= 1
    is_used = is_window | (k < 1)
    is_short_way = error.way < _MANY_UPDATES
    is_wrong = is_window & is_short_way & (error.growth > max_growth)
    k = jnp.where(is_known & is_used, changed, k)
    k = jnp.where(is_wrong, 0, k).astype(jnp.float32)
    last = state.last_pause
    last = jnp.where(
      is_wrong,
      jnp.clip(2 * last, 1, _LONGEST_PAUSE),
      jnp.where(is_window, _FORGIVING * last, last),
    )
    pause = jnp.where(is_wrong, last, jnp.maximum(state.pause - 1, 0))
    is_open = is_known & (pause <= 0)
    steps = jnp.where(is_open, jnp.floor(k), 0).astype(jnp.int32)
    state = resting.ask_for_rest(error, steps, state)
    return jnp.where(state.is_tired > 0, 0, steps), state._replace(
      length=k,
      pause=pause,
      last_pause=last,
      trust=_update_trust(error, state.trust),
      reach=reach,
    )

  return interfaces.Horizon(
    init,
    update,
    max_growth,
    max_expected_error,
    max_error,
    trust=_trusted_share,
    reach=lambda state: state.reach,
    rest=lambda state: jnp.where(state.is_tired > 0, state.rest, 0),
  )


def _update_trust(error, trust):
  is_bad = (error.growth > _BAD_GROWTH) | (error.relative_error > _BAD_ERROR)
  new = jnp.where(is_bad, (1 - _LOST) * trust, trust + _GAINED * (1 - trust))
  return jnp.where(error.window_steps > 0, new, trust).astype(jnp.float32)


def _trusted_share(state):
  return _LEAST_TRUST + (1 - _LEAST_TRUST) * state.trust
