"""Optimistix' minimisers, with every evaluation in the ledger.

Both search along a line by halving the step until Armijo's condition holds,
which is their default: a rejected trial is a pass forward alone.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from benchmarks.methods import ledger
from benchmarks.methods import running

_NO_TAGS: frozenset[object] = frozenset()
# Halving a step so often leaves nothing of it in float32.
_MOST_REJECTED = 60


def _conjugate_gradients():
  return optimistix.NonlinearCG(rtol=0.0, atol=0.0)


def _bfgs():
  return optimistix.BFGS(rtol=0.0, atol=0.0)


@functools.lru_cache(maxsize=2)
def _compiled(problem: running.Problem, make: Callable):
  """One trial, compiled, and its ledger, shared by the starts of a task."""
  book, solver = ledger.Ledger(), make()
  loss_fn = ledger.counted_linear(problem.loss, book)
  scalar = jax.ShapeDtypeStruct((), jnp.float32)

  def with_aux(x, args):
    del args
    return loss_fn(x), None

  @jax.jit
  def init(x):
    return solver.init(with_aux, x, None, {}, scalar, None, _NO_TAGS)

  @jax.jit
  def step(x, state):
    return solver.step(with_aux, x, None, {}, state, _NO_TAGS)[:2]

  return book, init, step


def _run(make: Callable, problem: running.Problem, seed: int) -> running.Run:
  book, init, step = _compiled(problem, make)
  book.clear()
  # Without the padding: BFGS holds a matrix.
  x = problem.start(seed)[: problem.size]
  state, budget, rejected = init(x), problem.task.budget, 0
  while len(book.losses) < budget and rejected < _MOST_REJECTED:
    before = len(book.losses)
    x, state = jax.block_until_ready(step(x, state))
    jax.effects_barrier()
    rejected = 0 if len(book.losses) > before else rejected + 1
    if not np.isfinite(book.losses[-1]):
      break
  return running.Run(None, seed, book.losses, book.forward_only)


def conjugate_gradients(problem: running.Problem, seed: int) -> running.Run:
  """`optimistix.NonlinearCG` (Polak and Ribière) as it comes."""
  return _run(_conjugate_gradients, problem, seed)


def bfgs(problem: running.Problem, seed: int) -> running.Run:
  """`optimistix.BFGS` as it comes."""
  return _run(_bfgs, problem, seed)
