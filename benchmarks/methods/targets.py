"""Targets after Moré and Wild, and how many true gradients a run needs.

J. J. Moré and S. M. Wild, Benchmarking derivative-free optimization
algorithms, SIAM J. Optim. 20 (2009): a run has solved a task to accuracy tau
when its loss is at most f* + tau (f0 - f*), with f* the best loss known.
"""

import math

import numpy as np

TAUS = (1e-1, 1e-3, 1e-5)
# A run that is this close has met every target a hundred times over.
DONE = 1e-7
_EPS = float(np.finfo(np.float32).eps)


def is_resolved(start: float, best: float, tau: float) -> bool:
  """Whether float32 can tell the target from the best loss.

  Below four units in the last place of f*, reaching the target is luck; such
  targets are left out for every method.
  """
  gap = tau * (start - best)
  return gap > 4 * _EPS * abs(best) and gap > 0


def level(start: float, best: float, tau: float) -> float:
  """The loss to be reached."""
  return best + tau * (start - best)


def evaluations(losses: list[float], target: float) -> float:
  """True gradients up to the first loss at or below the target, or infinity."""
  for count, loss in enumerate(losses, 1):
    if loss <= target:
      return count
  return math.inf


def lowest(losses: list[float]) -> float:
  """The lowest finite loss; infinity if there is none."""
  return min((x for x in losses if math.isfinite(x)), default=math.inf)
