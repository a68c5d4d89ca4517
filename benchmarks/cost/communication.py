"""Bytes between devices per optimizer step, read from the compiled programs.

python -m benchmarks.cost.communication

A small network on eight virtual CPU devices, its parameters on every device or
sharded over them. Each collective of the compiled step is counted where it
stands: once per true gradient, or inside fast_forward's loop and so once per
predicted step.
"""

import argparse
import json
import pathlib
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import optax

from benchmarks import environment
from benchmarks.cost import hlo
import optax_predict

DEVICES = 8
_RESULTS = pathlib.Path(__file__).parents[1] / "results"
_CALLS = 20
_LAYOUTS = {
  "replicated": {"w1": PartitionSpec(), "w2": PartitionSpec()},
  "sharded": {
    "w1": PartitionSpec(None, "devices"),
    "w2": PartitionSpec("devices", None),
  },
}


class Setup(NamedTuple):
  """A run placed on devices.

  Attributes:
    params: on their devices.
    state: the optimizer's, where :func:`state_shardings` puts it.
    batch: split over the devices.
    shardings: of parameters, state and loss: what a step returns.
  """

  params: Any
  state: Any
  batch: Any
  shardings: Any


def data(dtype: Any = np.float32) -> tuple[dict, tuple]:
  """Parameters and batch of a small regression, on the host."""
  rng = np.random.default_rng(0)
  params = {
    "w1": 0.1 * rng.standard_normal((16, 64)),
    "w2": 0.1 * rng.standard_normal((64, 8)),
  }
  x = rng.standard_normal((128, 16))
  batch = x, np.sin(x[:, :8])
  return jax.tree.map(lambda a: a.astype(dtype), (params, batch))


def loss_fn(params: dict, batch: tuple) -> jax.Array:
  """Mean squared error of a network with one hidden layer."""
  x, y = batch
  return jnp.mean((jnp.tanh(x @ params["w1"]) @ params["w2"] - y) ** 2)


def state_shardings(tx, params: Any, mesh) -> Any:
  """Each tree like the parameters where they are, all else on every device."""
  state = jax.eval_shape(tx.init, params)
  replicated = NamedSharding(mesh, PartitionSpec())
  return optax.tree_map_params(
    tx,
    lambda _, param: param.sharding,
    state,
    params,
    transform_non_params=lambda _: replicated,
  )


def place_params(
  layout: str, mesh, dtype: Any = np.float32
) -> tuple[dict, tuple, dict]:
  """Parameters and batch on the devices of a mesh, and the parameters' shardings."""
  params, batch = data(dtype)
  on = jax.tree.map(
    lambda spec: NamedSharding(mesh, spec),
    _LAYOUTS[layout],
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )
  batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("devices")))
  return jax.device_put(params, on), batch, on


def place(tx, layout: str, mesh, dtype: Any = np.float32) -> Setup:
  """Parameters, state and batch on the devices of a mesh."""
  params, batch, on = place_params(layout, mesh, dtype)
  shardings = state_shardings(tx, params, mesh)
  state = jax.jit(tx.init, out_shardings=shardings)(params)
  loss = NamedSharding(mesh, PartitionSpec())
  return Setup(params, state, batch, (on, shardings, loss))


def plain_step(tx, loss):
  """One true gradient, one optimizer step."""

  def step(params, state, batch):
    value, gradients = jax.value_and_grad(loss)(params, batch)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, value

  return step


def predicting_step(tx, loss):
  """The same, and then all predicted steps of the window."""
  plain = plain_step(tx, loss)

  def step(params, state, batch):
    params, state, value = plain(params, state, batch)
    params, state = optax_predict.fast_forward(tx, params, state)
    return params, state, value

  return step


def compile_step(step, setup: Setup):
  """The compiled step, which gives back params and state where they were."""
  jitted = jax.jit(step, out_shardings=setup.shardings)
  return jitted.lower(setup.params, setup.state, setup.batch).compile()


def run(compiled, setup: Setup, calls: int = _CALLS):
  """Parameters, state and losses after some calls of a compiled step."""
  params, state, losses = setup.params, setup.state, []
  for _ in range(calls):
    params, state, loss = compiled(params, state, setup.batch)
    losses.append(float(loss))
  return params, state, losses


def is_predicted(collective: hlo.Collective) -> bool:
  """Whether it stands in fast_forward's loop."""
  return collective.path[:1] in [("while",), ("while condition",)]


def is_untaken(collective: hlo.Collective) -> bool:
  """Whether it stands in the branch that a true gradient does not take."""
  return collective.path[:1] == ("branch 0",)


def count(found: list[hlo.Collective]) -> dict:
  """How many collectives, their bytes, and the largest one's."""
  sizes = [c.bytes for c in found]
  return {
    "collectives": len(sizes),
    "bytes": sum(sizes),
    "largest": max(sizes, default=0),
  }


def build(layout: str, mesh, forecaster=None):
  """A compiled step and where it starts; without a forecaster, plain Adam."""
  tx = optax.adam(1e-2)
  step = plain_step(tx, loss_fn)
  if forecaster is not None:
    tx = optax.chain(optax_predict.predict_gradients(forecaster), tx)
    step = predicting_step(tx, loss_fn)
  setup = place(tx, layout, mesh)
  return compile_step(step, setup), setup


def measure(compiled, setup: Setup) -> dict:
  """What a step of either kind sends; steps per gradient are from a run."""
  found = hlo.collectives(compiled.as_text())
  true = count([c for c in found if not (is_predicted(c) or is_untaken(c))])
  predicted = count([c for c in found if is_predicted(c)])
  _, state, _ = run(compiled, setup)
  steps, rounds = 1.0, 0.0
  if any(isinstance(s, optax_predict.PredictState) for s in state):
    steps = int(optax_predict.get_stats(state).total_steps) / _CALLS
    # The loop may go round once more than steps are taken: a refused one.
    rounds = steps
  return {
    "true": true,
    "predicted": predicted,
    "steps_per_gradient": steps,
    "bytes_per_step": (true["bytes"] + rounds * predicted["bytes"]) / steps,
  }


def rows(mesh, memories: tuple[int, ...]) -> list[dict]:
  """Both layouts, without prediction and with each memory of the secant."""
  secant = optax_predict.forecasters.secant
  rules = {"none": None} | {f"secant, memory {m}": secant(m) for m in memories}
  return [
    {"layout": layout, "rule": name} | measure(*build(layout, mesh, rule))
    for layout in _LAYOUTS
    for name, rule in rules.items()
  ]


def mesh():
  """Eight devices in a row; how arrays are split is left to the compiler."""
  return jax.make_mesh(
    (DEVICES,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,)
  )


def main(argv: list[str] | None = None) -> None:
  """Measures every row and writes one JSON file."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.cost.communication"
  )
  parser.add_argument("--memories", nargs="+", type=int, default=[2, 10])
  parser.add_argument("--results", type=pathlib.Path, default=_RESULTS)
  arguments = parser.parse_args(argv)
  jax.config.update("jax_num_cpu_devices", DEVICES)
  jax.config.update("jax_platforms", "cpu")
  parameters = sum(x.nbytes for x in jax.tree.leaves(data()[0]))
  content = {
    "made": environment.describe(),
    "devices": DEVICES,
    "parameter_bytes": parameters,
    "rows": rows(mesh(), tuple(arguments.memories)),
  }
  arguments.results.mkdir(parents=True, exist_ok=True)
  file = arguments.results / "communication.json"
  file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
  main()
