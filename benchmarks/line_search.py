"""L-BFGS with every evaluation of its line search in the ledger."""

import contextlib
import functools

import jax
from jax import experimental
import numpy as np
import optax
from scipy import optimize

from benchmarks import running

_MEMORY = 10


class _BudgetSpentError(Exception):
  """Ends SciPy's loop from inside the function it minimises."""


class _Ledger:
  """What was evaluated: losses with a gradient, and how many without."""

  def __init__(self):
    self.losses: list[float] = []
    self.forward_only = 0

  def with_gradient(self, loss):
    self.losses.append(float(loss))

  def without_gradient(self, loss):
    del loss
    self.forward_only += 1


def _counted(problem: running.Problem, ledger: _Ledger):
  """The loss, writing into the ledger each time the device evaluates it.

  The gradient is taken inside the forward rule, so that one pass forward and
  back is one entry wherever the line search differentiates.
  """

  def note(where, loss):
    experimental.io_callback(where, None, loss, ordered=True)

  @jax.custom_vjp
  def loss_fn(x):
    loss = problem.loss(x)
    note(ledger.without_gradient, loss)
    return loss

  def forward(x):
    loss, gradient = jax.value_and_grad(problem.loss)(x)
    note(ledger.with_gradient, loss)
    return loss, gradient

  loss_fn.defvjp(forward, lambda gradient, cotangent: (cotangent * gradient,))
  return loss_fn


@functools.lru_cache(maxsize=2)
def _optax_step(problem: running.Problem):
  """One compiled iteration and its ledger, shared by the starts of a task."""
  ledger = _Ledger()
  loss_fn = _counted(problem, ledger)
  tx = optax.lbfgs(memory_size=_MEMORY)
  value_and_grad = optax.value_and_grad_from_state(loss_fn)

  @jax.jit
  def step(x, state):
    value, grad = value_and_grad(x, state=state)
    updates, state = tx.update(
      grad, state, x, value=value, grad=grad, value_fn=loss_fn
    )
    return optax.apply_updates(x, updates), state

  return ledger, tx.init, step


def optax_lbfgs(problem: running.Problem, seed: int) -> running.Run:
  """`optax.lbfgs` as its documentation runs it, zoom line search included."""
  ledger, init, step = _optax_step(problem)
  ledger.losses, ledger.forward_only = [], 0
  x = problem.start(seed)
  state, budget = init(x), problem.task.budget
  while len(ledger.losses) < budget:
    before = len(ledger.losses)
    x, state = jax.block_until_ready(step(x, state))
    if len(ledger.losses) == before or not np.isfinite(ledger.losses[-1]):
      break
  return running.Run(None, seed, ledger.losses[:budget], ledger.forward_only)


def _minimise(problem, x, ledger: _Ledger, budget: int):
  """One call of L-BFGS-B, ended when the ledger holds `budget` losses."""
  best = [np.inf, x]

  def fun(x):
    if len(ledger.losses) >= budget:
      raise _BudgetSpentError
    loss, gradient = problem.value_and_grad(np.asarray(x, np.float32))
    loss = float(loss)
    ledger.with_gradient(loss)
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
  with contextlib.suppress(_BudgetSpentError):
    optimize.minimize(fun, x, jac=True, method="L-BFGS-B", options=options)
  return best[1]


def scipy_lbfgs(problem: running.Problem, seed: int) -> running.Run:
  """SciPy's `L-BFGS-B` without bounds."""
  ledger = _Ledger()
  x = np.asarray(problem.start(seed), np.float64)
  _minimise(problem, x, ledger, problem.task.budget)
  return running.Run(None, seed, ledger.losses)


def reference(problem: running.Problem, seed: int) -> running.Run:
  """SciPy's L-BFGS-B with ten times the budget, restarted where it stops.

  It is no opponent: it only looks for the best known loss.
  """
  ledger = _Ledger()
  x, budget = np.asarray(problem.start(seed), np.float64), problem.task.budget
  for _ in range(5):
    x = _minimise(problem, x, ledger, 10 * budget)
  return running.Run(None, seed, ledger.losses)
