"""flax.nnx: an ``nnx.Optimizer`` on the toy example of flax, in full batches."""

import functools

from flax import nnx
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.clients import _base

_STEPS, _SMALL_STEPS = 10_000, 2000
# flax renamed it in version 0.12.
_pure = nnx.as_pure if hasattr(nnx, "as_pure") else nnx.pure


class _MLP(nnx.Module):
  def __init__(self, rngs):
    self.linear1 = nnx.Linear(1, 32, rngs=rngs)
    self.linear2 = nnx.Linear(32, 1, rngs=rngs)

  def __call__(self, x):
    return self.linear2(nnx.relu(self.linear1(x)))


def run(
  optimizer,
  is_small: bool = False,
  steps: int | None = None,
  batch_size: int | None = None,
  seed: int = 0,
) -> _base.Run:
  """A parabola with noise, from a hundred points."""
  rng = np.random.default_rng(0)
  x = np.linspace(0, 1, 100)[:, None]
  y = 0.8 * x**2 + 0.1 + 0.1 * rng.standard_normal(x.shape)
  x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
  model = _MLP(nnx.Rngs(seed))
  batch_rng = np.random.default_rng(seed)

  def batch():
    if batch_size is None:
      return x, y
    rows = batch_rng.choice(len(x), size=batch_size)
    return x[rows], y[rows]

  optimizer = nnx.Optimizer(model, optimizer, wrt=nnx.Param)

  @nnx.jit
  def train_step(model, optimizer, x, y):
    def loss_fn(model):
      return jnp.mean((y - model(x)) ** 2)

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss

  train_step = nnx.cached_partial(train_step, model, optimizer)
  losses = [
    train_step(*batch())
    for _ in range(steps or (_SMALL_STEPS if is_small else _STEPS))
  ]
  return _base.Run(np.asarray(losses), _pure(optimizer.opt_state))


CLIENT = _base.Client(
  library="flax",
  loop="`nnx.Optimizer`, perceptron",
  rule="SGD 1e-3",
  optimizer=lambda: optax.sgd(1e-3),
  run=run,
)
# The example as it is: batches of 32, drawn anew at every step.
MINIBATCH = CLIENT._replace(
  loop="`nnx.Optimizer`, minibatches of 32",
  run=functools.partial(run, batch_size=32),
  is_noisy=True,
)
