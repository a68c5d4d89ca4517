"""L-BFGS with every evaluation of its line search in the ledger."""

import contextlib
import functools

import jax
import numpy as np
import optax
from scipy import optimize

from benchmarks.methods import ledger
from benchmarks.methods import running

_MEMORY = 10


@functools.lru_cache(maxsize=2)
def _optax_step(problem: running.Problem):
  """One compiled iteration and its ledger, shared by the starts of a task."""
  book = ledger.Ledger()
  loss_fn = ledger.counted(problem.loss, book)
  tx = optax.lbfgs(memory_size=_MEMORY)
  value_and_grad = optax.value_and_grad_from_state(loss_fn)

  @jax.jit
  def step(x, state):
    value, grad = value_and_grad(x, state=state)
    updates, state = tx.update(
      grad, state, x, value=value, grad=grad, value_fn=loss_fn
    )
    return optax.apply_updates(x, updates), state

  return book, tx.init, step


def optax_lbfgs(problem: running.Problem, seed: int) -> running.Run:
  """`optax.lbfgs` as its documentation runs it, zoom line search included."""
  book, init, step = _optax_step(problem)
  book.clear()
  x = problem.start(seed)
  state, budget = init(x), problem.task.budget
  while len(book.losses) < budget:
    before = len(book.losses)
    x, state = jax.block_until_ready(step(x, state))
    if len(book.losses) == before or not np.isfinite(book.losses[-1]):
      break
  return running.Run(None, seed, book.losses[:budget], book.forward_only)


def _minimise(problem, x, book: ledger.Ledger, budget: int):
  """One call of L-BFGS-B, ended when the ledger holds `budget` losses."""
  best = [np.inf, x]

  def fun(x):
    if len(book.losses) >= budget:
      raise ledger.BudgetSpentError
    loss, gradient = problem.value_and_grad(np.asarray(x, np.float32))
    loss = float(loss)
    book.with_gradient(loss)
    if loss < best[0]:
      best[:] = loss, np.array(x)
    return loss, np.asarray(gradient, np.float64)

  options = {
    "maxcor": _MEMORY,
    "maxfun": 10 * budget,
    "maxiter": 10 * budget,
    "ftol": 0.0,
    "gtol": 0.0,
  }
  with contextlib.suppress(ledger.BudgetSpentError):
    optimize.minimize(fun, x, jac=True, method="L-BFGS-B", options=options)
  return best[1]


def scipy_lbfgs(problem: running.Problem, seed: int) -> running.Run:
  """SciPy's `L-BFGS-B` without bounds."""
  book = ledger.Ledger()
  x = np.asarray(problem.start(seed), np.float64)
  _minimise(problem, x, book, problem.task.budget)
  return running.Run(None, seed, book.losses)


def reference(problem: running.Problem, seed: int) -> running.Run:
  """SciPy's L-BFGS-B with ten times the budget, restarted where it stops.

  It is no opponent: it only looks for the best known loss.
  """
  book = ledger.Ledger()
  x, budget = np.asarray(problem.start(seed), np.float64), problem.task.budget
  for _ in range(5):
    x = _minimise(problem, x, book, 10 * budget)
  return running.Run(None, seed, book.losses)
