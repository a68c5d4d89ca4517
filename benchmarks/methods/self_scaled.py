"""Self-scaled Broyden: a dense quasi-Newton method with a strong Wolfe search.

What Kiyani, Shukla, Urban, Darbon and Karniadakis, Which optimizer works best
for physics-informed neural networks, arXiv:2501.16371, found best of its kind.
The inverse Hessian's update is a member of Broyden's family, chosen anew at
every step, with a scale (M. Al-Baali and H. Khalfan, A combined class of
self-scaling and modified quasi-Newton methods, Comput. Optim. Appl. 52, 2012):

  H+ = (H - H y y' H / y'Hy + phi y'Hy v v') / tau + s s' / y's
  v  = s / y's - H y / y'Hy

The matrix and the search are in float64; losses and gradients are the
benchmark's, in float32, as for SciPy's L-BFGS-B.
"""

from collections.abc import Callable
import contextlib
import warnings

import numpy as np
from scipy import optimize

from benchmarks.methods import ledger
from benchmarks.methods import running

_MOST_TRIALS = 20
_TINY = 1e-12
Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]


def choose(b: float, h: float, size: int, first: bool) -> tuple[float, float]:
  """The scale and the member of the family.

  Args:
    b: s'Bs / y's, with B the inverse of H.
    h: y'Hy / y's.
    size: number of variables.
    first: whether H is the identity, which is then scaled by what the first
      step has shown.

  Returns:
    tau and phi.
  """
  a = max(h * b - 1.0, _TINY)
  low = min(1.0, h * (1.0 - np.sqrt(a / (1.0 + a))))
  theta = max((low - 1.0) / a, min(1.0 / low, (1.0 - b) / b))
  sigma = 1.0 + theta * a
  phi = (1.0 - theta) / sigma
  if first:
    return h / sigma, phi
  scale = min(1.0, 1.0 / b)
  root = abs(sigma) ** (1.0 / (1.0 - size)) if size > 1 else 1.0
  if theta > 0:
    return scale * min(root, 1.0 / theta), phi
  return min(scale * root, sigma), phi


def updated(
  inverse: np.ndarray, s: np.ndarray, y: np.ndarray, sbs: float, first: bool
) -> np.ndarray:
  """The next inverse Hessian.

  Args:
    inverse: the last.
    s: the step.
    y: by how much it changed the gradient; y's is positive.
    sbs: s'Bs.
    first: as in `choose`.
  """
  ys, hy = y @ s, inverse @ y
  yhy = y @ hy
  tau, phi = choose(sbs / ys, yhy / ys, s.size, first)
  v = s / ys - hy / yhy
  inner = inverse - np.outer(hy / yhy, hy) + np.outer(phi * yhy * v, v)
  return inner / tau + np.outer(s / ys, s)


class _Evaluations:
  """Loss and gradient together, once per point of a line."""

  def __init__(self, problem: running.Problem, book: ledger.Ledger):
    self._problem, self._book = problem, book
    self._known: dict[bytes, tuple[float, np.ndarray]] = {}

  def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
    key = x.tobytes()
    if key not in self._known:
      self._known[key] = self._evaluate(x)
    return self._known[key]

  def forget(self) -> None:
    """The next line begins."""
    self._known.clear()

  def _evaluate(self, x):
    problem, book = self._problem, self._book
    if len(book.losses) >= problem.task.budget:
      raise ledger.BudgetSpentError
    padded = np.zeros(problem.start(0).shape, np.float32)
    padded[: problem.size] = x
    loss, gradient = problem.value_and_grad(padded)
    book.with_gradient(loss)
    gradient = np.asarray(gradient, np.float64)[: problem.size]
    if not (np.isfinite(float(loss)) and np.isfinite(gradient).all()):
      return np.inf, np.zeros_like(gradient)
    return float(loss), gradient


def _search(evaluate: Evaluate, x, direction, gradient, loss, older):
  """The step by the strong Wolfe conditions; None where none is found."""
  with warnings.catch_warnings(), np.errstate(all="ignore"):
    warnings.simplefilter("ignore")
    found = optimize.line_search(
      lambda x: evaluate(x)[0],
      lambda x: evaluate(x)[1],
      x,
      direction,
      gradient,
      loss,
      older,
      maxiter=_MOST_TRIALS,
    )
  return found[0]


def _minimise(evaluate: _Evaluations, x: np.ndarray) -> None:
  """Goes on until the ledger is full or no descent is found.

  Where a search fails, it begins anew with the identity, and it ends where
  that fails at once.
  """
  loss, gradient = evaluate(x)
  inverse, first = np.eye(x.size), True
  older = loss + np.linalg.norm(gradient) / 2
  while np.any(gradient):
    direction = -inverse @ gradient
    step = None
    if direction @ gradient < 0:
      step = _search(evaluate, x, direction, gradient, loss, older)
    if step is None:
      if first:
        return
      inverse, first = np.eye(x.size), True
      older = loss + np.linalg.norm(gradient) / 2
      continue
    new = x + step * direction
    new_loss, new_gradient = evaluate(new)
    evaluate.forget()
    s, y = new - x, new_gradient - gradient
    sbs = -step * (s @ gradient)
    if y @ s > 0:
      inverse, first = updated(inverse, s, y, sbs, first), False
    x, older, loss, gradient = new, loss, new_loss, new_gradient


def ssbroyden(problem: running.Problem, seed: int) -> running.Run:
  """Self-scaled Broyden from a start."""
  book = ledger.Ledger()
  x = np.asarray(problem.start(seed), np.float64)[: problem.size]
  with contextlib.suppress(ledger.BudgetSpentError):
    _minimise(_Evaluations(problem, book), x)
  return running.Run(None, seed, book.losses)
