"""Three small training problems that stay noisy to the end.

Parameters are one flat vector, so that many runs of many methods are the rows
of one matrix. Convolutions are products with patches: under `vmap` over
weights XLA's own become grouped convolutions, which are slow on CPU.
"""

from collections.abc import Callable
import functools
import pydoc_data.topics
from typing import Any
from typing import NamedTuple

import jax
from jax import flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

_WIDTH, _CONTEXT, _HEADS = 16, 32, 2
_TEXT, _HELD_OUT = 400_000, 40_000
_SHIFT, _PIXEL_NOISE, _COLUMN_NOISE = 1, 0.5, 0.5


class Task(NamedTuple):
  """A problem with fresh noise in every batch.

  Attributes:
    name: unique.
    init: key -> flat parameters.
    loss: (flat parameters, batch) -> scalar.
    draw: (key, size) -> batch.
    judge: the batch that the loss is reported on; no method sees it.
    sizes: of a batch.
    steps: true gradients of a run of full length.
    rates: of AdamW and of SGD with momentum, where a search begins.
  """

  name: str
  init: Callable[[jax.Array], jax.Array]
  loss: Callable[[jax.Array, Any], jax.Array]
  draw: Callable[[jax.Array, int], Any]
  judge: Any
  sizes: tuple[int, int]
  steps: int
  rates: dict[str, float]


def _dense(key, rows: int, columns: int):
  return jax.random.normal(key, (rows, columns)) / np.sqrt(rows)


def _flat(init, apply):
  """Init and apply over a flat vector instead of a tree."""
  unravel = flatten_util.ravel_pytree(init(jax.random.key(0)))[1]
  return (
    lambda key: flatten_util.ravel_pytree(init(key))[0],
    lambda flat, *inputs: apply(unravel(flat), *inputs),
  )


def _cross_entropy(logits, labels):
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _normed(x):
  x = x - x.mean(-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)


def _transformer(vocabulary: int):
  """One causal block between an embedding and a readout."""
  shapes = {
    "qkv": (_WIDTH, 3 * _WIDTH),
    "mix": (_WIDTH, _WIDTH),
    "up": (_WIDTH, 4 * _WIDTH),
    "down": (4 * _WIDTH, _WIDTH),
    "out": (_WIDTH, vocabulary),
  }
  mask = np.tril(np.ones((_CONTEXT, _CONTEXT), bool))

  def init(key):
    keys = jax.random.split(key, len(shapes) + 2)
    dense = {
      name: _dense(k, *shape) for k, (name, shape) in zip(keys, shapes.items())
    }
    embed = 0.5 * jax.random.normal(keys[-2], (vocabulary, _WIDTH))
    place = 0.1 * jax.random.normal(keys[-1], (_CONTEXT, _WIDTH))
    return dense | {"embed": embed, "place": place}

  def attend(p, x):
    split = (*x.shape[:-1], 3, _HEADS, _WIDTH // _HEADS)
    q, k, v = jnp.moveaxis((_normed(x) @ p["qkv"]).reshape(split), -3, 0)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(_WIDTH // _HEADS)
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e9))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
    return x + mixed @ p["mix"]

  def apply(p, tokens):
    one_hot = jax.nn.one_hot(tokens, vocabulary)  # Its gradient is a product.
    x = attend(p, one_hot @ p["embed"] + p["place"])
    x = x + jax.nn.relu(_normed(x) @ p["up"]) @ p["down"]
    return _normed(x) @ p["out"]

  return _flat(init, apply)


def _symbols() -> tuple[int, np.ndarray]:
  """The manual that ships with Python, as codes of its commonest characters."""
  text = "".join(v for _, v in sorted(pydoc_data.topics.topics.items()))
  raw = np.frombuffer(text.lower().encode("ascii", "replace"), np.uint8)
  raw = raw[:_TEXT]
  kept = np.argsort(-np.bincount(raw, minlength=256), kind="stable")[:39]
  code = np.full(256, len(kept), np.int32)
  code[kept] = np.arange(len(kept))
  return len(kept) + 1, code[raw]


def text() -> Task:
  """A causal transformer of one block on characters of the manual."""
  vocabulary, codes = _symbols()
  train, held_out = jnp.asarray(codes[:-_HELD_OUT]), codes[-_HELD_OUT:]
  init, apply = _transformer(vocabulary)
  reach = np.arange(_CONTEXT + 1)

  def draw(key, size):
    first = jax.random.randint(key, (size, 1), 0, len(train) - len(reach))
    return train[first + reach]

  def loss(flat, rows):
    return _cross_entropy(apply(flat, rows[:, :-1]), rows[:, 1:])

  firsts = np.arange(256)[:, None] * (_HELD_OUT // 256 - 1)
  rates = {"adamw": 3e-2, "sgd": 0.3}
  judge = jnp.asarray(held_out[firsts + reach])
  return Task("text", init, loss, draw, judge, (4, 16), 500, rates)


def _patches(x):
  """3 x 3 patches of (batch, rows, columns, channels)."""
  rows, columns = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  shifts = [(i, j) for i in range(3) for j in range(3)]
  return jnp.concatenate(
    [x[:, i : i + rows, j : j + columns] for i, j in shifts], -1
  )


def _pooled(x):
  size, rows, columns, channels = x.shape
  split = x.reshape(size, rows // 2, 2, columns // 2, 2, channels)
  return split.mean((2, 4))


def _convnet():
  """Two convolutions and a readout for images of 8 x 8."""
  shapes = {"one": (9, 6), "two": (54, 12), "out": (48, 10)}

  def init(key):
    keys = jax.random.split(key, len(shapes))
    dense = {
      name: np.sqrt(2.0) * _dense(k, *shape)
      for k, (name, shape) in zip(keys, shapes.items())
    }
    shifts = {f"{name}_bias": jnp.zeros(s[1]) for name, s in shapes.items()}
    return dense | shifts

  def apply(p, x):
    for name in ("one", "two"):
      x = jax.nn.relu(_patches(x) @ p[name] + p[f"{name}_bias"])
      x = _pooled(x)
    return x.reshape(len(x), -1) @ p["out"] + p["out_bias"]

  return _flat(init, apply)


def digits() -> Task:
  """A convolutional net on digits, shifted and blurred by fresh noise."""
  images, labels = datasets.load_digits(return_X_y=True)
  images = jnp.asarray(images.reshape(-1, 8, 8) / 8 - 1, jnp.float32)
  padded = jnp.pad(
    images, ((0, 0), *[(_SHIFT, _SHIFT)] * 2), constant_values=-1
  )
  labels = jnp.asarray(labels, jnp.int32)
  init, apply = _convnet()

  def draw(key, size):
    row, shift, noise = jax.random.split(key, 3)
    row = jax.random.randint(row, (size,), 0, len(labels))
    shift = jax.random.randint(shift, (size, 2), 0, 2 * _SHIFT + 1)
    ways = np.arange(8)
    i, j = shift[:, :1] + ways, shift[:, 1:] + ways
    x = padded[row[:, None, None], i[:, :, None], j[:, None]]
    x = x + _PIXEL_NOISE * jax.random.normal(noise, x.shape)
    return x[..., None], labels[row]

  def loss(flat, batch):
    return _cross_entropy(apply(flat, batch[0]), batch[1])

  judge = draw(jax.random.key(2**31 - 1), 4096)
  rates = {"adamw": 1.6e-2, "sgd": 0.1}
  return Task("digits", init, loss, draw, judge, (8, 32), 1000, rates)


def _perceptron(inputs: int):
  shapes = ((inputs, 24), (24, 24), (24, 1))

  def init(key):
    keys = jax.random.split(key, len(shapes))
    return [(_dense(k, *s), jnp.zeros(s[1])) for k, s in zip(keys, shapes)]

  def apply(layers, x):
    for weights, shift in layers[:-1]:
      x = jnp.tanh(x @ weights + shift)
    return (x @ layers[-1][0] + layers[-1][1])[:, 0]

  return _flat(init, apply)


def table() -> Task:
  """A perceptron on the diabetes table, its columns blurred by fresh noise."""
  x, y = datasets.load_diabetes(return_X_y=True)
  x = jnp.asarray(x / x.std(0), jnp.float32)
  y = jnp.asarray((y - y.mean()) / y.std(), jnp.float32)
  init, apply = _perceptron(x.shape[1])

  def draw(key, size):
    row, noise = jax.random.split(key)
    row = jax.random.randint(row, (size,), 0, len(y))
    blur = _COLUMN_NOISE * jax.random.normal(noise, (size, x.shape[1]))
    return x[row] + blur, y[row]

  def loss(flat, batch):
    return jnp.square(apply(flat, batch[0]) - batch[1]).mean()

  judge = draw(jax.random.key(2**31 - 1), 4096)
  rates = {"adamw": 1.6e-2, "sgd": 0.12}
  return Task("table", init, loss, draw, judge, (8, 32), 2000, rates)


_BUILDERS = {"table": table, "digits": digits, "text": text}
NAMES = tuple(_BUILDERS)


@functools.cache
def get(name: str) -> Task:
  """Builds one task."""
  return _BUILDERS[name]()


def describe(name: str) -> str:
  """What a task is, in one sentence."""
  return _BUILDERS[name].__doc__.rstrip(".")
