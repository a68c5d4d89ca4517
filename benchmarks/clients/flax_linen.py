"""flax.linen: a ``TrainState`` on the linear regression of Flax Basics."""

from flax import linen as nn
from flax.training import train_state
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.clients import _base

_STEPS, _SMALL_STEPS = 101, 61


def run(
  optimizer, is_small: bool = False, steps: int | None = None
) -> _base.Run:
  """Twenty samples of ten numbers, five results with noise."""
  keys = jax.random.split(jax.random.key(0), 4)
  weights = jax.random.normal(keys[0], (10, 5))
  x = jax.random.normal(keys[1], (20, 10))
  y = x @ weights + 0.1 * jax.random.normal(keys[2], (20, 5))
  model = nn.Dense(5)
  state = train_state.TrainState.create(
    apply_fn=model.apply, params=model.init(keys[3], x), tx=optimizer
  )

  def loss_fn(params):
    squares = jnp.sum((model.apply(params, x) - y) ** 2, axis=-1)
    return jnp.mean(squares) / 2

  @jax.jit
  def train_step(state):
    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss

  losses = []
  for _ in range(steps or (_SMALL_STEPS if is_small else _STEPS)):
    state, loss = train_step(state)
    losses.append(loss)
  return _base.Run(np.asarray(losses), state.opt_state)


CLIENT = _base.Client(
  library="flax",
  loop="linen `TrainState`, linear regression",
  rule="Adam 0.3",
  optimizer=lambda: optax.adam(0.3),
  run=run,
)
