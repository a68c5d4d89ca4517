"""Holt's level and damped slope, for gradients at irregular times."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.core import reductions
from optax_predict.core import trees


class HoltHistory(NamedTuple):
  """A smoothed gradient and its smoothed change.

  Attributes:
    level: smoothed gradient at the last true one, like the parameters.
    slope: its change per optimizer step there, like the parameters.
    level_weight: sum of the weights of the gradients in the level, a real
      scalar; 0 before the first gradient.
    slope_weight: sum of the weights of the changes in the slope; 0 before the
      second gradient.
    norms: ``[2]``, of level and slope.
  """

  level: interfaces.PyTree
  slope: interfaces.PyTree
  level_weight: jax.Array
  slope_weight: jax.Array
  norms: jax.Array


def holt(
  level: float = 0.9, slope: float = 0.9, damping: float = 0.98
) -> interfaces.Forecaster:
  r"""Extrapolates by exponential smoothing with a damped trend.

  Let :math:`g` be a true gradient, :math:`n` optimizer steps after the one before.
  Level :math:`l` and slope :math:`b` are moved by the surprise :math:`e`.
  :math:`\Delta` steps later the forecast is :math:`\hat g`:

  .. math::

    e &= g - l - S_n b, \quad S_n = \phi + \phi^2 + \dots + \phi^n \\
    l &\leftarrow l + S_n b + \alpha_n e \\
    b &\leftarrow \phi^n (b + \alpha_n \beta_n e / S_n) \\
    \hat g &= l + S_\Delta b

  For :math:`n = 1` that is Gardner's and McKenzie's damped trend. The gains are
  Wright's for irregular times: :math:`\alpha_n = 1/W` with
  :math:`W \leftarrow 1 + (1 - \alpha)^n W` from :math:`W = 0`. So the first
  gradient becomes the level, and a later one counts more after a longer gap.
  :math:`\beta_n` is computed likewise, from the second gradient on.

  With one past gradient the forecast is that gradient. With none it is zero. Small
  gains without damping can be unstable where gaps differ a lot. If level or slope
  overflows, the method starts again from the present gradient.

  Memory: 2 parameter-sized buffers, the slope in ``accumulator_dtype``. A
  predicted step reads both.

  Args:
    level: :math:`\alpha`, share of the surprise that is added to the level, for
      gradients one optimizer step apart, in [0, 1].
    slope: :math:`\beta`, share of the level's change that is added to the slope,
      for gradients one optimizer step apart, in [0, 1].
    damping: :math:`\phi`, share of the slope that is left after an optimizer
      step, in [0, 1]. 1 extrapolates a straight line, 0 the level alone.

  Returns:
    A :class:`Forecaster`. It counts as full with the two gradients that make a
    slope.

  Raises:
    ValueError: if an argument is outside [0, 1].

  Examples:
    >>> import jax.numpy as jnp
    >>> import optax_predict
    >>> rule = optax_predict.forecasters.holt(level=1.0, slope=1.0, damping=0.5)
    >>> horizon = optax_predict.horizons.fixed(prediction_steps=4)
    >>> predictor = optax_predict.gradient_predictor(rule, horizon)
    >>> state = predictor.init(jnp.zeros(2))
    >>> state = predictor.record_gradient(jnp.array([8.0, 2.0]), state)
    >>> state = predictor.record_gradient(jnp.array([4.0, 2.0]), state)
    >>> for _ in range(2):
    ...   gradients, state = predictor.predict_gradient(state)
    ...   print(gradients)
    [2. 2.]
    [1. 2.]

  References:
    Gardner and McKenzie, `Forecasting trends in time series
    <https://doi.org/10.1287/mnsc.31.10.1237>`_, 1985; Wright, `Forecasting data
    published at irregular time intervals using an extension of Holt's method
    <https://doi.org/10.1287/mnsc.32.4.499>`_, 1986.
  """
  checks.check_number("level", level, 0.0, 1.0)
  checks.check_number("slope", slope, 0.0, 1.0)
  checks.check_number("damping", damping, 0.0, 1.0)

  def init(params, dtype=None):
    scalar = trees.tree_dtype(params)
    return HoltHistory(
      level=trees.zeros(params),
      slope=trees.zeros(params, dtype),
      level_weight=jnp.zeros([], scalar),
      slope_weight=jnp.zeros([], scalar),
      norms=jnp.zeros([2], scalar),
    )

  def extrapolate(history, steps):
    reach = damping * _geometric_sum(damping, steps)
    line = trees.combine(
      [jnp.ones_like(reach), reach], [history.level, history.slope]
    )
    return line, reach

  def observe(gradients, history, motion, error):
    del error
    dtype = history.level_weight.dtype
    steps = jnp.maximum(motion.steps, 1).astype(dtype)
    one = jnp.ones_like(steps)
    level_weight = 1 + _power(1 - level, steps) * history.level_weight
    slope_weight = 1 + _power(1 - slope, steps) * history.slope_weight
    line, _ = extrapolate(history, steps)
    surprise = trees.combine([one, -one], [gradients, line])
    is_slope = (history.level_weight > 0).astype(dtype)
    # phi^n / S_n, which is 1 at n = 1 whatever the damping.
    per_reach = _power(damping, steps - 1) / _geometric_sum(damping, steps)
    gain = is_slope * per_reach / (level_weight * slope_weight)
    followed = HoltHistory(
      level=trees.combine([one, 1 / level_weight], [line, surprise]),
      slope=trees.combine(
        [_power(damping, steps), gain], [history.slope, surprise]
      ),
      level_weight=level_weight,
      slope_weight=is_slope * slope_weight,
      norms=history.norms,
    )
    return _finite_or_anew(followed, gradients, history)

  def predict(history, motion):
    steps = motion.steps.astype(history.level_weight.dtype)
    line, reach = extrapolate(history, steps)
    largest = history.norms @ jnp.stack([jnp.ones_like(reach), reach])
    expected_error = jnp.where(jnp.isfinite(largest), 0, jnp.inf)
    return interfaces.Forecast(
      trees.cast_like(line, history.level), expected_error
    )

  return interfaces.Forecaster(
    init,
    observe,
    predict,
    history_size=2,
    recall=lambda history: history.level,
  )


def _finite_or_anew(followed, gradients, like):
  """The updated history; where it overflowed, one of this gradient alone."""
  level, slope = followed.level, followed.slope
  norms = jnp.sqrt(reductions.inner_products([(level, level), (slope, slope)]))
  is_finite = jnp.all(jnp.isfinite(norms))
  anew = jnp.stack([reductions.norm(gradients), jnp.zeros_like(norms[1])])
  one = jnp.ones_like(followed.level_weight)
  return HoltHistory(
    level=trees.where(
      is_finite,
      trees.cast_like(level, like.level),
      trees.cast_like(gradients, like.level),
    ),
    slope=trees.where(
      is_finite,
      trees.cast_like(slope, like.slope),
      trees.zeros(like.slope),
    ),
    level_weight=jnp.where(is_finite, followed.level_weight, one),
    slope_weight=jnp.where(is_finite, followed.slope_weight, 0),
    norms=jnp.where(is_finite, norms, anew.astype(norms.dtype)),
  )


def _power(base, steps):
  """``base ** steps`` in the dtype of ``steps``; 1 for none."""
  return jnp.asarray(base, steps.dtype) ** steps


def _geometric_sum(ratio, steps):
  """1 + ratio + ... + ratio^(steps - 1), without cancellation near 1."""
  ratio = jnp.asarray(ratio, steps.dtype)
  log = jnp.log(jnp.maximum(ratio, jnp.finfo(ratio.dtype).tiny))
  is_one = log == 0
  quotient = jnp.expm1(steps * log) / jnp.where(is_one, 1, jnp.expm1(log))
  return jnp.where(is_one, steps, quotient)
