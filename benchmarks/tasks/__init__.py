"""The tasks. `all_tasks()` builds every deterministic one; `get` builds one."""

import functools
import importlib

from benchmarks.tasks import _base

Task = _base.Task

FAMILIES = (
  "quadratic",
  "regression",
  "valleys",
  "dynamics",
  "gaussian_process",
  "factorisation",
  "inverse",
  "pinn",
  "images",
  "networks",
  "lora",
  "physics",
)


@functools.cache
def specs() -> dict[str, _base.Spec]:
  """Name -> spec of every deterministic task that is not from CUTEst."""
  for family in FAMILIES:
    importlib.import_module(f"benchmarks.tasks.{family}")
  listed = sorted(
    _base.SPECS.values(), key=lambda spec: FAMILIES.index(spec.family)
  )
  return {spec.name: spec for spec in listed}


def names(role: str | None = None) -> list[str]:
  """Task names in file order, all of them or those of one role."""
  return [s.name for s in specs().values() if role in (None, s.role)]


@functools.cache
def get(name: str) -> Task:
  """Builds one task; a CUTEst problem is called `cutest/NAME`."""
  if name.startswith("cutest/"):
    from benchmarks.tasks import cutest  # sif2jax takes seconds to import.

    return cutest.get(name)
  if name not in specs():
    raise KeyError(f"no task {name!r}; there are {names()}.")
  spec = specs()[name]
  init, loss = spec.build()
  return Task(name, spec.family, init, loss, spec.budget, spec.role)


def all_tasks(role: str | None = None) -> list[Task]:
  """Every deterministic task outside CUTEst, built (a few seconds in all)."""
  return [get(name) for name in names(role)]
