"""What a task is, and the list that the families write themselves into."""

from collections.abc import Callable
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Params = Any
ROLES = ("tuning", "reporting")


class Task(NamedTuple):
  """One deterministic minimisation problem.

  Attributes:
    name: unique, as printed in every table.
    family: the file that holds it.
    init: seed -> params, a float32 pytree; seeds 0, 1 and 2 are the starts.
    loss: params -> scalar float32, full batch, no randomness.
    budget: true gradients that every method may spend.
    role: "tuning" if defaults may be chosen by looking at it, "reporting" if
      nothing was ever chosen by it; only the latter enter the headline.
  """

  name: str
  family: str
  init: Callable[[int], Params]
  loss: Callable[[Params], jax.Array]
  budget: int
  role: str


class Spec(NamedTuple):
  """A task not yet built: listing costs no data and no pretraining."""

  name: str
  family: str
  budget: int
  role: str
  build: Callable[[], tuple[Callable, Callable]]


SPECS: dict[str, Spec] = {}


def task(role: str, budget: int):
  """Registers a builder `() -> (init, loss)` under its own function name.

  The builder runs outside any trace, so it may compute its data eagerly; what
  `loss` closes over must be NumPy arrays, which never leak a tracer.
  """
  if role not in ROLES:
    raise ValueError(f"role must be one of {ROLES}, got {role!r}.")

  def register(build):
    name = build.__name__
    if name in SPECS:
      raise ValueError(f"two tasks are called {name!r}.")
    family = build.__module__.rsplit(".", 1)[-1]
    SPECS[name] = Spec(name, family, budget, role, functools.cache(build))
    return build

  return register


def perturbed(x0, scale: float):
  """A start for each seed: x0 plus Gaussian noise of the given scale.

  Runs from one point alone can be lucky (a change of 1e-6 in x0 may decide
  whether a tuned run meets its target), so results are medians over starts.
  """
  x0 = np.asarray(x0, np.float32)

  def init(seed: int):
    noise = np.random.default_rng(1000 + seed).standard_normal(x0.shape)
    return jnp.asarray(x0 + scale * noise.astype(np.float32))

  return init


def network_init(module, example):
  """A start for each seed from a flax.linen module's own initialisers."""
  compiled = jax.jit(module.init)  # Eagerly, each initialiser compiles alone.

  def init(seed: int):
    return compiled(jax.random.key(seed), example)["params"]

  return init


def squared_norm(params) -> jax.Array:
  """The sum of squares over a pytree, for weight decay."""
  return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
