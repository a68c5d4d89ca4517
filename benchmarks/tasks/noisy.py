"""Minibatch tasks for the regime map: does noise switch prediction off?"""

from collections.abc import Callable
import functools
import pydoc_data.topics
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import numpy as np
import optax

from benchmarks.tasks import _base
from benchmarks.tasks import networks


class NoisyTask(NamedTuple):
  """A training problem over minibatches.

  Attributes:
    name: unique.
    init: seed -> params.
    loss: (params, batch) -> scalar, the mean over the batch's leading axis.
    data: a pytree of NumPy arrays with one example per row.
    batch_sizes: ascending; the last is the whole set, where noise ends.
    budget: true gradients that every method may spend.
    bases: the optimizers worth running on it.
  """

  name: str
  init: Callable[[int], Any]
  loss: Callable[[Any, Any], jax.Array]
  data: Any
  batch_sizes: tuple[int, ...]
  budget: int
  bases: tuple[str, ...] = ("sgd", "momentum", "adam")

  @property
  def size(self) -> int:
    """The number of examples."""
    return len(jax.tree.leaves(self.data)[0])


def batches(task: NoisyTask, batch_size: int, seed: int):
  """Yields `budget` batches, by epochs without replacement.

  The n-th true gradient of every method sees the n-th batch of its seed, so
  that methods are compared pair by pair.
  """
  rng = np.random.default_rng(seed)
  order = np.array([], np.int64)
  for _ in range(task.budget):
    if batch_size == task.size:
      yield task.data
      continue
    if len(order) < batch_size:
      order = np.concatenate([order, rng.permutation(task.size)])
    rows, order = order[:batch_size], order[batch_size:]
    yield jax.tree.map(lambda leaf, rows=rows: leaf[rows], task.data)


def _classification(module):
  def loss(params, batch):
    x, y = batch
    logits = module.apply({"params": params}, x)
    data = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return data + 1e-4 * _base.squared_norm(params)

  return loss


def digits_mlp() -> NoisyTask:
  """A perceptron with batches from 16 to all 1,024 images."""
  module, data = networks.Perceptron(), networks.digits(1024)
  return NoisyTask(
    "noisy/digits_mlp",
    _base.network_init(module, data[0]),
    _classification(module),
    data,
    (16, 64, 256, 1024),
    400,
  )


def digits_convnet() -> NoisyTask:
  """A convolutional network with batches from 16 to all 512."""
  module, data = networks.ConvNet(), networks.digits(512)
  return NoisyTask(
    "noisy/digits_convnet",
    _base.network_init(module, data[0]),
    _classification(module),
    data,
    (16, 64, 512),
    300,
  )


class _Block(nn.Module):
  @nn.compact
  def __call__(self, x):
    mask = nn.make_causal_mask(x[..., 0])
    y = nn.LayerNorm()(x)
    x = x + nn.MultiHeadDotProductAttention(num_heads=2)(y, mask=mask)
    y = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
    return x + nn.Dense(x.shape[-1])(y)


class _Transformer(nn.Module):
  vocabulary: int
  width: int = 16

  @nn.compact
  def __call__(self, tokens):
    place = self.param(
      "place", nn.initializers.normal(0.02), (tokens.shape[-1], self.width)
    )
    x = nn.Embed(self.vocabulary, self.width)(tokens) + place
    return nn.Dense(self.vocabulary)(nn.LayerNorm()(_Block()(x)))


def _text(rows: int, length: int):
  """Rows of character codes from the manual that ships with Python."""
  topics = pydoc_data.topics.topics
  text = "".join(topics[k] for k in ("class", "import", "with"))
  text = text.lower().encode("ascii", "replace")[: rows * length]
  symbols, codes = np.unique(np.frombuffer(text, np.uint8), return_inverse=True)
  return len(symbols), codes.reshape(rows, length).astype(np.int32)


def char_transformer() -> NoisyTask:
  """A one-block causal transformer on characters of plain text."""
  vocabulary, data = _text(128, 25)
  module = _Transformer(vocabulary)

  def loss(params, tokens):
    logits = module.apply({"params": params}, tokens[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, tokens[:, 1:]
    ).mean()

  return NoisyTask(
    "noisy/char_transformer",
    _base.network_init(module, data[:1, :-1]),
    loss,
    data,
    (16, 128),
    300,
    ("momentum", "adam"),
  )


_BUILDERS = {
  "noisy/digits_mlp": digits_mlp,
  "noisy/digits_convnet": digits_convnet,
  "noisy/char_transformer": char_transformer,
}


def names() -> list[str]:
  """The noisy tasks' names."""
  return list(_BUILDERS)


@functools.cache
def get(name: str) -> NoisyTask:
  """Builds one noisy task."""
  return _BUILDERS[name]()
