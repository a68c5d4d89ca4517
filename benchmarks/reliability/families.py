"""Families of random problems; all of one family share a program.

A problem is a flat vector of ``SIZE`` numbers, padded with zeros that nothing
reads, and a tree of arrays that the loss is a function of.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.reliability import losses

SIZE = 64

Draw = Callable[[np.random.Generator], tuple[Any, np.ndarray]]


class Family(NamedTuple):
  """Problems with the same loss function and shapes.

  Attributes:
    name: as in the tables.
    kind: "smooth", "not smooth" or "noisy".
    draw: ``draw(rng) -> (data, start)``, a random problem and where it starts.
    loss: ``loss(x, data) -> scalar``, of the whole padded vector.
    gradient: ``gradient(x, data, call) -> gradient`` where it is not that of
      the loss; ``call`` is the number of gradients before this one.
  """

  name: str
  kind: str
  draw: Draw
  loss: Callable[[jax.Array, Any], jax.Array]
  gradient: Callable[[jax.Array, Any, jax.Array], jax.Array] | None = None

  def value_and_grad(self, x, data, call):
    """Loss without noise and the gradient that an optimizer is given."""
    if self.gradient is None:
      return jax.value_and_grad(self.loss)(x, data)
    return self.loss(x, data), self.gradient(x, data, call)


FAMILIES = (
  Family("quadratic", "smooth", losses.draw_quadratic, losses.quadratic),
  Family(
    "exponentials", "smooth", losses.draw_exponentials, losses.exponentials
  ),
  Family("logistic", "smooth", losses.draw_logistic, losses.logistic),
  Family("softmax", "smooth", losses.draw_softmax, losses.softmax),
  Family(
    "tanh network", "smooth", losses.draw_tanh_network, losses.tanh_network
  ),
  Family(
    "factorisation", "smooth", losses.draw_factorisation, losses.factorisation
  ),
  Family("rosenbrock", "smooth", losses.draw_rosenbrock, losses.rosenbrock),
  Family("saddles", "smooth", losses.draw_saddles, losses.saddles),
  Family("products", "smooth", losses.draw_products, losses.products),
  Family("huber", "not smooth", losses.draw_regression, losses.huber),
  Family("absolute", "not smooth", losses.draw_regression, losses.absolute),
  Family(
    "relu network", "not smooth", losses.draw_relu_network, losses.relu_network
  ),
  Family("cliffs", "not smooth", losses.draw_cliffs, losses.cliffs),
  Family(
    "noisy quadratic",
    "noisy",
    losses.draw_noisy_quadratic,
    losses.quadratic,
    losses.noisy_gradient,
  ),
  Family(
    "minibatches",
    "noisy",
    losses.draw_softmax,
    losses.softmax,
    losses.minibatch_gradient,
  ),
  # Last, since a family's place is in the seed of its problems.
  Family(
    "oscillations", "smooth", losses.draw_oscillations, losses.oscillations
  ),
)


def named(names: Sequence[str]) -> tuple[Family, ...]:
  """The families of these names, in the order of ``FAMILIES``."""
  return tuple(f for f in FAMILIES if f.name in names)


def draw(
  count: int, chosen: Sequence[Family] = FAMILIES, seed: int = 0
) -> tuple[tuple[Any, ...], np.ndarray]:
  """Random problems of every family.

  Args:
    count: problems per family.
    chosen: the families.
    seed: of the random numbers; problem i of a family is the same for every
      count and choice.

  Returns:
    The data, one stacked tree per family, and the starts, ``[families * count,
    SIZE]``, family after family.
  """
  data, starts = [], []
  for family in chosen:
    number = FAMILIES.index(family)
    drawn = [
      family.draw(np.random.default_rng([seed, number, i]))
      for i in range(count)
    ]
    trees = [tree for tree, _ in drawn]
    data.append(jax.tree.map(lambda *x: np.float32(np.stack(x)), *trees))
    starts += [np.pad(x, (0, SIZE - x.size)) for _, x in drawn]
  return tuple(data), np.float32(np.stack(starts))


def value_and_grad(
  chosen: Sequence[Family],
  x: jax.Array,
  data: tuple[Any, ...],
  call: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Losses ``[n]`` and gradients ``[n, SIZE]`` of all problems at once."""
  parts = jnp.split(x, len(chosen))
  results = [
    jax.vmap(family.value_and_grad, (0, 0, None))(part, tree, call)
    for family, part, tree in zip(chosen, parts, data, strict=True)
  ]
  values, gradients = zip(*results)
  return jnp.concatenate(values), jnp.concatenate(gradients)
