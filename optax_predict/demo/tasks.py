"""Real problems of a size that two cores train in seconds."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Task(NamedTuple):
  """A loss to minimise.

  Attributes:
    title: what the plots and tables call it.
    init: ``init(seed) -> params``.
    loss: ``loss(params, batch) -> f32[]``; deterministic for a given batch.
    batches: ``batches(seed, steps)``, a tree with one leading axis of
      ``steps``, or ``None`` for a loss that needs no data.
    evaluate: the loss over all data, for a table.
    optimizers: what to compare on it, by name.
    steps: true gradients a run may use.
    is_noisy: whether gradients carry minibatch noise.
  """

  title: str
  init: Callable[[int], Any]
  loss: Callable[[Any, Any], jax.Array]
  batches: Callable[[int, int], Any]
  evaluate: Callable[[Any], jax.Array]
  optimizers: dict[str, Callable[[Any], optax.GradientTransformation]]
  steps: int
  is_noisy: bool


def _momentum(rate):
  return optax.sgd(rate, momentum=0.9)


def _digits():
  """The 1797 images of 8 x 8 pixels that ship with scikit-learn."""
  from flax import linen as nn
  from sklearn import datasets

  data = datasets.load_digits()
  images = jnp.asarray(data.data / 16, jnp.float32)
  labels = jnp.asarray(data.target, jnp.int32)

  class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.tanh(nn.Dense(32)(x))
      return nn.Dense(10)(x)

  model = Classifier()

  def init(seed):
    return model.init(jax.random.key(seed), images[:1])

  def loss(params, batch):
    x, y = batch
    logits = model.apply(params, x)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

  return init, loss, (images, labels)


def digits(quick: bool) -> Task:
  """A Flax network on all digits at once: exact, smooth gradients."""
  init, loss, data = _digits()
  return Task(
    title="digits, full batch",
    init=init,
    loss=lambda params, batch: loss(params, data),
    batches=lambda seed, steps: jnp.zeros([steps]),
    evaluate=lambda params: loss(params, data),
    optimizers={"momentum": _momentum, "adam": optax.adam},
    steps=120 if quick else 300,
    is_noisy=False,
  )


def digits_minibatch(quick: bool) -> Task:
  """The same network on minibatches of 64: noise dominates, nothing to save."""
  init, loss, data = _digits()
  count = data[1].size

  def batches(seed, steps):
    indices = jax.random.randint(jax.random.key(seed), (steps, 64), 0, count)
    return jax.tree.map(lambda x: x[indices], data)

  return Task(
    title="digits, minibatches of 64",
    init=init,
    loss=loss,
    batches=batches,
    evaluate=lambda params: loss(params, data),
    optimizers={"momentum": _momentum, "adam": optax.adam},
    steps=200 if quick else 600,
    is_noisy=True,
  )


def heat(quick: bool) -> Task:
  """Which conductivity let a rod cool as three thermometers saw it cool.

  The gradient goes back through 60 implicit time steps of the heat equation.
  """
  cells = 48
  x = np.linspace(0, 1, cells + 1)
  truth = 0.6 * np.sin(2 * np.pi * x) + 0.3 * (abs(x - 0.7) < 0.12)
  difference = jnp.asarray(np.diff(np.eye(cells + 2), axis=0)[:, 1:-1])
  heater = jnp.asarray(np.exp(-(((np.arange(cells) - 12) / 5.0) ** 2)))

  def thermometers(log_conductivity):
    flux = jnp.exp(log_conductivity)[:, None] * difference
    step = jnp.linalg.inv(jnp.eye(cells) + 1.5 * difference.T @ flux)

    def march(temperature, _):
      temperature = step @ (temperature + heater)
      return temperature, temperature[jnp.array([6, 24, 40])]

    return jax.lax.scan(march, jnp.zeros(cells), None, length=60)[1]

  measured = thermometers(jnp.asarray(truth, jnp.float32))

  def loss(log_conductivity):
    misfit = jnp.mean((thermometers(log_conductivity) - measured) ** 2)
    roughness = jnp.mean(jnp.diff(log_conductivity) ** 2)
    return misfit / jnp.mean(measured**2) + 1e-4 * roughness

  def init(seed):
    return 0.1 * jax.random.normal(jax.random.key(seed), (cells + 1,))

  return Task(
    title="heat conductivity from three thermometers",
    init=init,
    loss=lambda params, batch: loss(params),
    batches=lambda seed, steps: jnp.zeros([steps]),
    evaluate=loss,
    optimizers={"momentum": _momentum, "adam": optax.adam},
    steps=120 if quick else 300,
    is_noisy=False,
  )


TASKS = {"heat": heat, "digits": digits, "digits-minibatch": digits_minibatch}
