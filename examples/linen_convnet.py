"""A convolutional net on digits: flax.linen, BatchNorm, Dropout, an aux output.

The ``TrainState`` and the training step are the usual ones: only the optimizer is
another. Loss, accuracy, BatchNorm statistics and dropout keys come from true
gradients only.
Dropout makes gradients noisy: prediction works while the loss falls fast, and
switches itself off later.

  python examples/linen_convnet.py --steps 80 --seed 0
"""

import argparse
from typing import Any

from flax import linen as nn
from flax.training import train_state
import jax
import jax.numpy as jnp
import optax
from sklearn import datasets

import optax_predict


class ConvNet(nn.Module):
  """Two convolutions and a linear layer: 8 x 8 images to 10 logits."""

  @nn.compact
  def __call__(self, images, train):
    """Maps ``[batch, 8, 8, 1]`` to ``[batch, 10]``."""
    x = nn.Conv(8, (3, 3), strides=2)(images)
    x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
    x = nn.relu(nn.Conv(16, (3, 3), strides=2)(x))
    x = nn.Dropout(0.1, deterministic=not train)(x.reshape(len(x), -1))
    return nn.Dense(10)(x)


class TrainState(train_state.TrainState):
  """Flax's, with what BatchNorm and Dropout need."""

  batch_stats: Any
  dropout_key: jax.Array


def load_digits():
  """Returns ``((images, labels), (images, labels))``: to train on, to test on."""
  digits = datasets.load_digits()
  images = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
  labels = jnp.asarray(digits.target)
  return (images[:500], labels[:500]), (images[500:], labels[500:])


def create_state(seed):
  """Initializes the net and an optimizer that predicts."""
  params_key, dropout_key = jax.random.split(jax.random.key(seed))
  model = ConvNet()
  variables = model.init(params_key, jnp.zeros([1, 8, 8, 1]), train=False)
  # A short memory compiles sooner.
  forecaster = optax_predict.forecasters.secant(memory=3)
  return TrainState.create(
    apply_fn=model.apply,
    params=variables["params"],
    tx=optax_predict.accelerate(optax.sgd(0.01, momentum=0.9), forecaster),
    batch_stats=variables["batch_stats"],
    dropout_key=dropout_key,
  )


@jax.jit
def train_step(state, images, labels):
  """The usual training step."""

  def loss_fn(params):
    logits, changed = state.apply_fn(
      {"params": params, "batch_stats": state.batch_stats},
      images,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": jax.random.fold_in(state.dropout_key, state.step)},
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), (logits, changed["batch_stats"])

  value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, (logits, batch_stats)), grads = value_and_grad(state.params)
  state = state.apply_gradients(grads=grads, batch_stats=batch_stats)
  return state, loss, jnp.mean(logits.argmax(-1) == labels)


@jax.jit
def evaluate(state, images, labels):
  """Accuracy with BatchNorm's running statistics and without dropout."""
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  logits = state.apply_fn(variables, images, train=False)
  return jnp.mean(logits.argmax(-1) == labels)


def main(argv=None):
  """Trains; returns the final state and the loss at every true gradient."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=80, help="true gradients")
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args(argv)

  train, test = load_digits()
  state, losses = create_state(args.seed), []
  for step in range(args.steps):
    state, loss, accuracy = train_step(state, *train)
    losses.append(float(loss))
    if step % 10 == 0 or step == args.steps - 1:
      stats = optax_predict.get_stats(state.opt_state)
      print(f"loss {loss:.4f}, accuracy {accuracy:.1%}: {stats}")
  stats = optax_predict.get_stats(state.opt_state)
  print(
    f"{stats.computed_steps} true gradients, {stats.predicted_steps} predicted"
    f" steps; loss {losses[-1]:.4f}, test accuracy {evaluate(state, *test):.1%}"
  )
  return state, losses


if __name__ == "__main__":
  main()
