"""A straight line in time through past gradients, with a fading residual."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.core import trees


class TrendHistory(NamedTuple):
  """A weighted least-squares line; times are counted from the last gradient.

  The line is kept as its distance from the last gradient. That distance is small
  where the line fits, and it is all that a bfloat16 history rounds.

  Attributes:
    last_gradient: the last true gradient, like the parameters.
    residual: the last true gradient minus the line there.
    slope: of the line, per optimizer step.
    weight: sum of the weights of all gradients, a real scalar; 0 before the
      first.
    mean_time: weighted mean of their times, in optimizer steps, 0 or less.
    time_variance: weighted variance of their times.
  """

  last_gradient: interfaces.PyTree
  residual: interfaces.PyTree
  slope: interfaces.PyTree
  weight: jax.Array
  mean_time: jax.Array
  time_variance: jax.Array


class _Gain(NamedTuple):
  """Shares of a gradient's surprise that are added to a line."""

  level: jax.Array
  slope: jax.Array


def trend(
  decay: float = 0.95, residual_decay: float = 0.9
) -> interfaces.Forecaster:
  r"""Extrapolates a line fitted to past true gradients over time.

  Let :math:`g_i` be past true gradients at times :math:`t_i` in optimizer steps,
  counted back from the last one as :math:`i = 0, 1, \dots` They define a line by
  weighted least squares. The forecast :math:`\Delta` steps after the last is

  .. math::

    a, b &= \arg\min \sum_i w^i \, |g_i - a - b \, (t_i - t_0)|^2 \\
    \hat g &= a + b \, \Delta + \rho^\Delta \, (g_0 - a)

  Its terms are the line at the last gradient, the slope times the time passed, and
  what the line missed of the last gradient, which fades. With one past
  gradient the forecast is that gradient. With none it is zero. The fit is exact for
  any spacing of true gradients. How far back it reaches depends on the decay only.

  The line is updated recursively. The sum of the weights and the mean and variance
  of the times are three scalars that all parameters share. They are recentred at
  every true gradient, which keeps them small.

  Memory: 3 parameter-sized buffers, two of them in ``accumulator_dtype``. A
  predicted step reads all three.

  Args:
    decay: :math:`w`, weight of a true gradient relative to the next one, in
      [0, 1]. 0 is the line through the last two, 1 forgets nothing. A large decay
      averages noise. A small one keeps up with gradients that turn.
    residual_decay: :math:`\rho`, share of the residual that is left after an
      optimizer step, in [0, 1]. 0 predicts on the line, 1 on the parallel to it
      through the last gradient.

  Returns:
    A :class:`Forecaster`. It counts as full with the two gradients that make a
    line.

  Raises:
    ValueError: if ``decay`` or ``residual_decay`` is outside [0, 1].

  Examples:
    >>> import jax.numpy as jnp
    >>> import optax_predict
    >>> line = optax_predict.forecasters.trend(decay=0.5)
    >>> horizon = optax_predict.horizons.fixed(prediction_steps=4)
    >>> predictor = optax_predict.gradient_predictor(line, horizon)
    >>> state = predictor.init(jnp.zeros(2))
    >>> state = predictor.record_gradient(jnp.array([4.0, 2.0]), state)
    >>> state = predictor.record_gradient(jnp.array([3.0, 2.0]), state)
    >>> for _ in range(2):
    ...   gradients, state = predictor.predict_gradient(state)
    ...   print(gradients)
    [2. 2.]
    [1. 2.]

  References:
    ``DeterministicPredictor`` of the Rust package this library started from, for
    the form of the forecast; Ljung and Soderstrom, `Theory and Practice of
    Recursive Identification`, 1983, for least squares with forgetting.
  """
  checks.check_number("decay", decay, 0.0, 1.0)
  checks.check_number("residual_decay", residual_decay, 0.0, 1.0)

  def init(params, dtype=None):
    scalar = trees.tree_dtype(params)
    return TrendHistory(
      last_gradient=trees.zeros(params),
      residual=trees.zeros(params, dtype),
      slope=trees.zeros(params, dtype),
      weight=jnp.zeros([], scalar),
      mean_time=jnp.zeros([], scalar),
      time_variance=jnp.zeros([], scalar),
    )

  def observe(gradients, history, motion, error):
    del error
    steps = motion.steps.astype(history.weight.dtype)
    weight, mean_time, variance, gain = _add_time(history, decay, steps)
    one = jnp.ones_like(steps)
    # The gradient minus the old line's value here. That line is kept as its
    # distance from the old gradient.
    surprise = trees.combine(
      [one, -one, one, -steps],
      [gradients, history.last_gradient, history.residual, history.slope],
    )
    slope = trees.combine([one, gain.slope], [history.slope, surprise])
    residual = trees.combine([1 - gain.level], [surprise])
    return TrendHistory(
      last_gradient=trees.cast_like(gradients, history.last_gradient),
      residual=trees.cast_like(residual, history.residual),
      slope=trees.cast_like(slope, history.slope),
      weight=weight,
      mean_time=mean_time,
      time_variance=variance,
    )

  def predict(history, motion):
    steps = motion.steps.astype(history.weight.dtype)
    faded = jnp.asarray(residual_decay, steps.dtype) ** steps
    forecast = trees.combine(
      [jnp.ones_like(steps), faded - 1, steps],
      [history.last_gradient, history.residual, history.slope],
    )
    # It is finite: a slope is a mean of slopes between past gradients. Their norms
    # are below overflow by a factor that no number of steps makes up for.
    expected_error = jnp.zeros_like(steps)
    return interfaces.Forecast(
      trees.cast_like(forecast, history.last_gradient), expected_error
    )

  return interfaces.Forecaster(
    init,
    observe,
    predict,
    history_size=2,
    needs_look_ahead=False,
    recall=lambda history: history.last_gradient,
  )


def _add_time(history, decay, steps):
  """Adds the present time to the statistics; returns the line's gain too.

  Let P be the inverse of the weighted sum of (1, t)(1, t)^T over all gradients, the
  new one included. Least squares adds P (1, 0)^T times the surprise to the line's
  present (level, slope).
  """
  is_first = history.weight == 0
  kept = jnp.asarray(decay, steps.dtype) * history.weight
  weight = kept + 1
  new_share, old_share = 1 / weight, kept / weight
  back = steps - history.mean_time
  spread = history.time_variance + new_share * back**2
  is_line = (spread > 0) & ~is_first
  per_spread = jnp.where(is_line, new_share / jnp.where(is_line, spread, 1), 0)
  gain = _Gain(
    level=new_share + old_share * back**2 * per_spread,
    slope=back * per_spread,
  )
  return weight, -old_share * back, old_share * spread, gain
