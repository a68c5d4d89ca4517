"""Unconstrained CUTEst problems, by a rule and not by hand.

The rule, applied to sif2jax 0.0.8 before any optimizer was run on them:
  1. every problem in `sif2jax.unconstrained_minimisation_problems`, at the size
     and starting point that sif2jax gives it;
  2. with 2 to 200 variables;
  3. whose loss is a finite float32 scalar at the start and whose gradient is
     finite and not zero;
  4. of problems that share their first five letters (one family at several
     sizes or data sets), the one with most variables, then the first by name.
`NAMES` is the outcome. `python -m benchmarks.tasks.cutest` applies the rule
afresh and prints what differs.
"""

import functools
import importlib
import importlib.util
import pathlib
import re
import sys
import types
import warnings

import jax
from jax import flatten_util
import jax.numpy as jnp
import numpy as np

from benchmarks.tasks import _base

BUDGET = 500
_PACKAGE = "sif2jax.cutest._unconstrained_minimisation"
_MODULES = {"EXP2": "exp_scipy", "KIRBY2LS": "kirby"}

_PARAGRAPH = """
AKIVA ALLINITU ARGLINA ARGTRIGLS BARD BEALE BENNETT5LS BIGGS6 BOX3 BOXBODLS
BROWNDEN CHNROSNB CHNRSNBM CHWIRUT1LS CLIFF CLUSTERLS COATING COOLHANSLS CUBE
DANIWOODLS DENSCHND DEVGLA2 DIXMAANA1 DJTL DMN15103LS EGGCRATE ELATVIDU ENGVAL2
ERRINROS EXP2 EXPFIT GAUSS1LS GROWTHLS HAHN1LS HAIRY HATFLDD HEART8LS HELIX
HILBERTB HIMMELBCLS HUMPS JENSMP JUDGE KIRBY2LS KOWOSB LANCZOS1LS LOGHAIRY
LSC1LS LSC2LS LUKSAN11LS MARATOSB MEXHAT MGH09LS MGH10LS MGH17LS MISRA1ALS
NELSONLS OSBORNEB PALMER1C PENALTY3 POWERSUM PRICE3 QING RAT42LS RAT43LS ROSENBR
ROSZMAN1LS S308 SISSER SNAIL SPIN2LS TRIGON1 VANDANMSLS VARDIM VESUVIALS
VIBRBEAM WAYSEA1 ZANGWIL2
"""
NAMES = tuple(_PARAGRAPH.split())


def names() -> list[str]:
  """The names as `benchmarks.tasks.get` knows them."""
  return [f"cutest/{name}" for name in NAMES]


@functools.cache
def _stub_packages() -> pathlib.Path:
  """Lets one problem be imported without all thousand of its neighbours.

  `import sif2jax` builds every problem (45 s of one core) and one of the
  constrained ones turns on 64-bit arithmetic for the whole process. Empty
  packages in their place leave the problem's own module to be imported alone.
  """
  spec = importlib.util.find_spec("sif2jax")
  if spec is None:
    raise ImportError("the CUTEst tasks need the package sif2jax.")
  path = pathlib.Path(spec.submodule_search_locations[0])
  parts = _PACKAGE.split(".")
  for depth in range(len(parts)):
    name = ".".join(parts[: depth + 1])
    module = types.ModuleType(name)
    module.__path__ = [str(path.joinpath(*parts[1 : depth + 1]))]
    sys.modules.setdefault(name, module)
  return path.joinpath(*parts[1:])


def _quietly(function):
  """Without the warnings about float64, which the rule rounds to float32."""

  @functools.wraps(function)
  def call(*args):
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", UserWarning)
      return function(*args)

  return call


def _problem(name: str):
  _stub_packages()
  module = f"{_PACKAGE}.{_MODULES.get(name, name.lower())}"
  return getattr(importlib.import_module(module), name)()


def _starts(x0: np.ndarray):
  """Seed 0 is the published start; the others move each entry by about 1 %."""

  def init(seed: int):
    noise = np.random.default_rng(1000 + seed).standard_normal(x0.shape)
    size = np.abs(x0) if np.any(x0) else 1.0
    return jnp.asarray(x0 + (seed > 0) * 0.01 * size * noise, jnp.float32)

  return init


@_quietly
def get(name: str) -> _base.Task:
  """Builds `cutest/NAME` in float32."""
  problem = _problem(name.removeprefix("cutest/"))
  flat, unravel = flatten_util.ravel_pytree(problem.y0)
  x0 = np.asarray(flat, np.float64)
  args = jax.tree.map(np.asarray, problem.args)

  @_quietly
  def loss(x):
    return jnp.asarray(problem.objective(unravel(x), args), jnp.float32)

  return _base.Task(name, "cutest", _starts(x0), loss, BUDGET, "reporting")


def _qualifies(name: str) -> int:
  """The number of variables if rules 2 and 3 hold, else 0."""
  task = get(f"cutest/{name}")
  x = task.init(0)
  if not 2 <= x.size <= 200:
    return 0
  value, gradient = jax.jit(jax.value_and_grad(task.loss))(x)
  finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
  return x.size if finite & jnp.any(gradient != 0) else 0


def _apply_rule() -> list[str]:
  """The rule above, from the list in sif2jax's own source."""
  source = (_stub_packages() / "__init__.py").read_text()
  listed = source.split("unconstrained_minimisation_problems", 1)[1]
  families: dict[str, list[tuple[int, str]]] = {}
  for name in dict.fromkeys(re.findall(r"^\s+(\w+)\(\)", listed, re.M)):
    for line in re.findall(rf"^from \.(\w+) import .*\b{name}\b", source, re.M):
      _MODULES.setdefault(name, line)
    if size := _qualifies(name):
      families.setdefault(name[:5], []).append((-size, name))
  return sorted(min(members)[1] for members in families.values())


if __name__ == "__main__":
  print("differs:", sorted(set(NAMES) ^ set(_apply_rule())) or "nothing")
