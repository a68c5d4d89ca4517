"""equinox: its documented training step, on a small perceptron."""

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.clients import _base

_STEPS, _SMALL_STEPS = 1000, 400


def run(
  optimizer, is_small: bool = False, steps: int | None = None
) -> _base.Run:
  """A sine from sixty-four points; the model holds its activation, a function."""
  x = jnp.linspace(-1.0, 1.0, 64)[:, None]
  y = jnp.sin(3.0 * x)
  model = equinox.nn.MLP(
    1, 1, 32, 2, activation=jnp.tanh, key=jax.random.key(0)
  )

  @equinox.filter_value_and_grad
  def grad_loss(model):
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)

  @equinox.filter_jit
  def make_step(model, opt_state):
    loss, grads = grad_loss(model)
    updates, opt_state = optimizer.update(
      grads, opt_state, equinox.filter(model, equinox.is_array)
    )
    model = equinox.apply_updates(model, updates)
    return loss, model, opt_state

  opt_state = optimizer.init(equinox.filter(model, equinox.is_array))
  losses = []
  for _ in range(steps or (_SMALL_STEPS if is_small else _STEPS)):
    loss, model, opt_state = make_step(model, opt_state)
    losses.append(loss)
  return _base.Run(np.asarray(losses), opt_state)


CLIENT = _base.Client(
  library="equinox",
  loop="training step, perceptron",
  rule="Adam 1e-3",
  optimizer=lambda: optax.adam(1e-3),
  run=run,
)
