"""True gradients until a loss is reached."""

import numpy as np

# A converged run ends anywhere within a few units of the last digit.
_UNITS = 8


def final_loss(losses: np.ndarray) -> float:
  """The loss that a run ends at, to rounding."""
  last = losses[-1]
  return float(last) + _UNITS * float(np.finfo(losses.dtype).eps * abs(last))


def gap_loss(losses: np.ndarray, best: float, gap: float) -> float:
  """The loss from which a share ``gap`` of the way down to ``best`` is left."""
  return best + gap * (float(losses[0]) - best)


def gradients_to(losses: np.ndarray, target: float) -> int | None:
  """True gradients up to the first loss of at most ``target``, if there is one."""
  reached = np.flatnonzero(losses <= target)
  return int(reached[0]) + 1 if reached.size else None
