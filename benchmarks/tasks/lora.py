"""Low-rank fine-tuning: a frozen network, small trained factors beside it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.tasks import _base
from benchmarks.tasks import networks

_SIZES = (64, 64, 64, 10)
_RANK = 4


def _forward(layers, x):
  for i, (w, b) in enumerate(layers):
    x = x @ w + b
    if i + 1 < len(layers):
      x = jax.nn.gelu(x)
  return x


def _cross_entropy(layers, x, y):
  logits = _forward(layers, x)
  return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def _pretrained(x, y):
  """Weights after 150 Adam steps: a second of work, the same every time."""
  rng = np.random.default_rng(0)
  layers = [
    (rng.standard_normal((a, b)) / np.sqrt(a), np.zeros(b))
    for a, b in itertools.pairwise(_SIZES)
  ]
  layers = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), layers)
  tx = optax.adam(3e-3)

  def step(carry, _):
    layers, state = carry
    grads = jax.grad(_cross_entropy)(layers, x, y)
    updates, state = tx.update(grads, state)
    return (optax.apply_updates(layers, updates), state), None

  carry = (layers, tx.init(layers))
  (layers, _), _ = jax.lax.scan(step, carry, None, length=150)
  return jax.tree.map(np.asarray, layers)


@_base.task("reporting", budget=500)
def lora_digits():
  """Adapts digits to their negatives, mirrored, with rank-4 factors."""
  x, y = networks.digits(800)
  frozen = _pretrained(x[400:], y[400:])
  mirrored = x[:400].reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64)
  target, labels = 1 - mirrored, y[:400]

  def loss(params):
    layers = [
      (w + down @ up, b)
      for (w, b), (down, up) in zip(frozen, params, strict=True)
    ]
    decay = 1e-4 * _base.squared_norm(params)
    return _cross_entropy(layers, target, labels) + decay

  def init(seed):
    rng = np.random.default_rng(seed)
    factors = [
      (rng.standard_normal((a, _RANK)) / np.sqrt(a), np.zeros((_RANK, b)))
      for a, b in itertools.pairwise(_SIZES)
    ]
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), factors)

  return init, loss
