"""What the secant forecaster keeps."""

from typing import Any
from typing import NamedTuple

import jax

from optax_predict.core import interfaces
from optax_predict.forecasters.secant import kept_pairs


class SecantHistory(NamedTuple):
  """Secant pairs from true gradients; m is the memory, n counts candidates.

  Attributes:
    pairs: how many pairs were taken in, ``int32[]``. Once all m slots are full it
      is only kept modulo m. The newest pair is in slot ``(pairs - 1) % m``.
    has_gradient: 1 once a gradient was taken in, ``int32[]``.
    last_gradient: the last true gradient, like the parameters.
    kept: the pairs: moves s_j between true gradients, scaled to unit length, and the
      changes y_j of the gradient along them, scaled alike.
    lengths: ``[m]``, |s_j| before it was scaled.
    gram: ``[m, m]``, s_i . s_j.
    cross: ``[m, m]``, y_i . s_j.
    change_gram: ``[m, m]``, y_i . y_j.
    middles: ``[m, m]``; row j holds the middle of move j, seen from the last true
      gradient, as a sum of the s_i. It is divided by the square of the distance at
      which the farthest move began.
    inverses: ``[n, m, m]``, inverse of the kernel plus each candidate's ridge.
    fits: ``[n, 2]``, running means that the stiffness is computed from.
    scores: ``[n]``, running means of the candidates' relative errors.
    errors: ``[2]``, running means of the forecasts' errors and of what the
      model left unexplained, both relative to the gradient's norm.
  """

  pairs: jax.Array
  has_gradient: jax.Array
  last_gradient: interfaces.PyTree
  kept: kept_pairs.Pairs
  lengths: jax.Array
  gram: jax.Array
  cross: jax.Array
  change_gram: jax.Array
  middles: jax.Array
  inverses: jax.Array
  fits: jax.Array
  scores: jax.Array
  errors: jax.Array


def leave_out_trees(history: SecantHistory) -> Any:
  """The numbers and small matrices alone."""
  kept: Any = history.kept
  return history._replace(last_gradient=None, kept=kept._replace(basis=None))
