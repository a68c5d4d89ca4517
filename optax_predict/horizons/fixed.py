"""The original rule's window: a set number of predicted steps, or none."""

import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import interfaces


def fixed(
  prediction_steps: int = 4, min_correlation: float = 0.8
) -> interfaces.Horizon:
  """The same number of predicted steps after every good forecast.

  A true gradient is due while fewer than two are recorded, after
  ``prediction_steps`` predictions, and as long as the forecast for the last
  true gradient had a correlation with it below ``min_correlation``. With good
  forecasts and 4 steps the run reads ``A A .... A .... A`` (A: a true gradient,
  a dot: a predicted one). Updates are not limited.

  Args:
    prediction_steps: predicted steps between two true gradients, at least 1.
    min_correlation: cosine between forecast and true gradient below which
      nothing is predicted, in [-1, 1]; free of the gradient's scale. -1 predicts
      always.

  Returns:
    A :class:`Horizon`.

  Raises:
    ValueError: if an argument is outside its range.

  Examples:
    >>> import optax_predict
    >>> horizon = optax_predict.horizons.fixed(prediction_steps=4)
  """
  steps = checks.check_count("prediction_steps", prediction_steps)
  checks.check_number("min_correlation", min_correlation, -1.0, 1.0)

  def init():
    return ()

  def update(error, state):
    is_good = error.correlation >= min_correlation
    is_due = (error.history_size >= 1) & is_good
    return jnp.where(is_due, steps, 0).astype(jnp.int32), state

  return interfaces.Horizon(init, update)
