"""A convolutional net on digits: flax.nnx, BatchNorm, Dropout, an aux output.

``nnx.Optimizer`` and the training step are the usual ones: only its ``tx`` is
another. Loss, accuracy, BatchNorm statistics and random streams come from true
gradients only.
Dropout makes gradients noisy: prediction works while the loss falls fast, and
switches itself off later.

  python examples/nnx_convnet.py --steps 80 --seed 0
"""

import argparse

from flax import nnx
import jax.numpy as jnp
import optax
from sklearn import datasets

import optax_predict
import optax_predict.nnx


class ConvNet(nnx.Module):
  """Two convolutions and a linear layer: 8 x 8 images to 10 logits."""

  def __init__(self, rngs):
    self.conv1 = nnx.Conv(1, 8, (3, 3), strides=2, rngs=rngs)
    self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
    self.conv2 = nnx.Conv(8, 16, (3, 3), strides=2, rngs=rngs)
    self.dropout = nnx.Dropout(0.1, rngs=rngs)
    self.linear = nnx.Linear(64, 10, rngs=rngs)

  def __call__(self, images):
    """Maps ``[batch, 8, 8, 1]`` to ``[batch, 10]``."""
    x = nnx.relu(self.norm(self.conv1(images)))
    x = nnx.relu(self.conv2(x))
    return self.linear(self.dropout(x.reshape(len(x), -1)))


def load_digits():
  """Returns ``((images, labels), (images, labels))``: to train on, to test on."""
  digits = datasets.load_digits()
  images = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
  labels = jnp.asarray(digits.target)
  return (images[:500], labels[:500]), (images[500:], labels[500:])


def create_model(seed):
  """Returns the net and an optimizer that predicts."""
  model = ConvNet(nnx.Rngs(seed))
  # A short memory compiles sooner.
  forecaster = optax_predict.forecasters.secant(memory=3)
  tx = optax_predict.accelerate(optax.sgd(0.01, momentum=0.9), forecaster)
  return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


def loss_fn(model, images, labels):
  """Mean cross entropy, with the logits as aux output."""
  logits = model(images)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return losses.mean(), logits


@nnx.jit
def train_step(model, optimizer, images, labels):
  """The usual training step."""
  value_and_grad = nnx.value_and_grad(loss_fn, has_aux=True)
  (loss, logits), grads = value_and_grad(model, images, labels)
  optimizer.update(model, grads)
  return loss, jnp.mean(logits.argmax(-1) == labels)


@nnx.jit
def evaluate(model, images, labels):
  """Accuracy; call ``model.eval()`` before."""
  return jnp.mean(model(images).argmax(-1) == labels)


def main(argv=None):
  """Trains; returns the model, the optimizer and the loss per true gradient."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=80, help="true gradients")
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args(argv)

  train, test = load_digits()
  model, optimizer = create_model(args.seed)
  losses = []
  for step in range(args.steps):
    loss, accuracy = train_step(model, optimizer, *train)
    losses.append(float(loss))
    if step % 10 == 0 or step == args.steps - 1:
      stats = optax_predict.nnx.get_stats(optimizer)
      print(f"loss {loss:.4f}, accuracy {accuracy:.1%}: {stats}")
  model.eval()
  accuracy = evaluate(model, *test)
  model.train()
  print(
    f"{stats.computed_steps} true gradients, {stats.predicted_steps} predicted"
    f" steps; loss {losses[-1]:.4f}, test accuracy {accuracy:.1%}"
  )
  return model, optimizer, losses


if __name__ == "__main__":
  main()
