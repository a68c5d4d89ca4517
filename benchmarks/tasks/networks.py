"""Full-batch networks on scikit-learn's digits."""

from flax import linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

from benchmarks.tasks import _base


def digits(count: int):
  """Images in [0, 1] as (count, 64) and integer labels, in file order."""
  x, y = datasets.load_digits(return_X_y=True)
  return (x[:count] / 16).astype(np.float32), y[:count].astype(np.int32)


class Perceptron(nn.Module):
  """Two hidden layers of rectified units."""

  width: int = 32

  @nn.compact
  def __call__(self, x):  # noqa: D102
    x = nn.relu(nn.Dense(self.width)(x))
    return nn.Dense(10)(nn.relu(nn.Dense(self.width)(x)))


class ConvNet(nn.Module):
  """Two strided convolutions and a linear layer, on 8 x 8 images."""

  @nn.compact
  def __call__(self, x):  # noqa: D102
    x = x.reshape(-1, 8, 8, 1)
    x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
    x = nn.relu(nn.Conv(16, (3, 3), strides=2)(x))
    return nn.Dense(10)(x.reshape(len(x), -1))


class _Autoencoder(nn.Module):
  @nn.compact
  def __call__(self, x):
    for width in (32, 6, 32):
      x = nn.tanh(nn.Dense(width)(x))
    return nn.Dense(64)(x)


def _classifier(module, count: int):
  x, y = digits(count)

  def loss(params):
    logits = module.apply({"params": params}, x)
    data = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return data + 1e-4 * _base.squared_norm(params)

  return _base.network_init(module, x), loss


@_base.task("tuning", budget=600)
def digits_mlp():
  """The smallest network that people really train."""
  return _classifier(Perceptron(), 600)


@_base.task("reporting", budget=500)
def digits_convnet():
  """Two strided convolutions: shared weights, uneven gradient sizes."""
  return _classifier(ConvNet(), 256)


@_base.task("reporting", budget=600)
def digits_autoencoder():
  """A bottleneck of six: long plateaus before each new direction."""
  x, _ = digits(400)
  module = _Autoencoder()

  def loss(params):
    error = module.apply({"params": params}, x) - x
    return jnp.mean(error**2) + 1e-6 * _base.squared_norm(params)

  return _base.network_init(module, x), loss
