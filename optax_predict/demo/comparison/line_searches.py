"""L-BFGS, with every evaluation of its line search counted."""

from collections.abc import Callable
import time
from typing import Any

import jax
from jax import experimental
from jax import flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from optax_predict.demo.comparison.recording import Notes
from optax_predict.demo.comparison.recording import Run
from optax_predict.demo.comparison.recording import strong

_MEMORY = 10  # pairs that are kept


def run_scipy_lbfgs(
  value_and_grad: Callable[..., Any],
  params: Any,
  num_gradients: int,
  *,
  metric: Callable[[Any], Any] | None = None,
) -> Run:
  """SciPy's L-BFGS-B: every evaluation has a gradient and counts as one."""
  from scipy import optimize

  flat, unravel = flatten_util.ravel_pytree(strong(params))

  @jax.jit
  def evaluate(flat):
    loss, grads = value_and_grad(unravel(flat))
    return loss, flatten_util.ravel_pytree(grads)[0]

  before = time.perf_counter()
  jax.block_until_ready(evaluate(flat))
  compile_seconds = time.perf_counter() - before
  notes = Notes(metric)

  def fun(x):
    if len(notes.losses) == num_gradients:
      raise StopIteration
    at = jnp.asarray(x, flat.dtype)
    loss, grads = jax.device_get(evaluate(at))
    notes.loss(loss)
    notes.params(unravel(at), loss)
    return float(loss), np.asarray(grads, np.float64)

  options = {"maxcor": _MEMORY, "ftol": 0.0, "gtol": 0.0}
  options |= {"maxfun": 10 * num_gradients, "maxiter": 10 * num_gradients}
  try:
    x = np.asarray(flat, np.float64)
    optimize.minimize(fun, x, jac=True, method="L-BFGS-B", options=options)
  except StopIteration:
    pass
  return notes.run("SciPy L-BFGS-B", compile_seconds)


def run_optax_lbfgs(
  value_and_grad: Callable[..., Any],
  params: Any,
  num_gradients: int,
  *,
  metric: Callable[[Any], Any] | None = None,
) -> Run:
  """`optax.lbfgs` as documented, every evaluation of its line search counted."""
  now: list[Notes] = []

  def note(loss):
    now[-1].loss(loss)

  # The gradient is taken in the forward rule: one pass forth and back, one note.
  @jax.custom_vjp
  def loss_fn(params):
    return forward(params)[0]

  def forward(params):
    loss, grads = value_and_grad(params)
    experimental.io_callback(note, None, loss, ordered=True)
    return loss, grads

  def back(grads, cotangent):
    return (jax.tree.map(lambda g: cotangent * g, grads),)

  loss_fn.defvjp(forward, back)
  tx = optax.lbfgs(memory_size=_MEMORY)

  @jax.jit
  def step(params, state):
    value, grad = optax.value_and_grad_from_state(loss_fn)(params, state=state)
    updates, state = tx.update(
      grad, state, params, value=value, grad=grad, value_fn=loss_fn
    )
    return optax.apply_updates(params, updates), state, value

  before = time.perf_counter()
  now.append(Notes(metric))
  params = strong(params)
  state = tx.init(params)
  warm = params, state
  for _ in range(3):
    warm = jax.block_until_ready(step(*warm[:2]))
  jax.effects_barrier()
  compile_seconds = time.perf_counter() - before
  now.append(Notes(metric))
  notes = now[-1]
  while len(notes.losses) < num_gradients:
    at, counted = params, len(notes.losses)
    params, state, value = jax.block_until_ready(step(params, state))
    jax.effects_barrier()
    notes.params(at, np.asarray(value))
    if len(notes.losses) == counted or not np.isfinite(notes.losses[-1]):
      break
  run = notes.run("optax.lbfgs", compile_seconds)
  kept = slice(num_gradients)
  metrics = None if run.metric is None else run.metric[kept]
  return run._replace(
    losses=run.losses[kept], seconds=run.seconds[kept], metric=metrics
  )
