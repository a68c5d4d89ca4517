"""Everything that needs eight devices, in one process; prints JSON.

JAX reads the number of devices once: `test_sharding.py` runs this file in a
process of its own and asserts on what it prints.
"""

import functools
import json
import os

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax

from benchmarks.cost import communication
from benchmarks.cost import hlo
import optax_predict
from tests import helpers

CALLS = 12
MESHES = {
  kind: jax.make_mesh(
    (8,), ("devices",), axis_types=(getattr(jax.sharding.AxisType, kind),)
  )
  for kind in ("Auto", "Explicit")
}
WHOLE, SPLIT = PartitionSpec(), PartitionSpec("devices")


RULES = {
  "momentum": optax_predict.forecasters.momentum,
  "secant": lambda: optax_predict.forecasters.secant(2, directions=3),
}


def optimizer(rule, horizon=None):
  predict = optax_predict.predict_gradients(RULES[rule](), horizon)
  return optax.chain(predict, optax.adam(1e-2))


def gathered_loss(params, batch):
  """What an explicit mesh wants said: weights are gathered before their use."""
  if jax.typeof(params["w1"]).sharding.spec[-1] is not None:
    params = jax.tree.map(
      lambda x: jax.sharding.reshard(x, PartitionSpec(None, None)), params
    )
  return communication.loss_fn(params, batch)


def mean_over_devices(params, batch):
  return lax.pmean(communication.loss_fn(params, batch), "devices")


def loss_in_shard_map(params, batch):
  return jax.shard_map(
    mean_over_devices,
    mesh=MESHES["Auto"],
    in_specs=(WHOLE, SPLIT),
    out_specs=WHOLE,
  )(params, batch)


def step_in_shard_map(tx, loss):
  return jax.shard_map(
    communication.predicting_step(tx, loss),
    mesh=MESHES["Auto"],
    in_specs=(WHOLE, WHOLE, SPLIT),
    out_specs=(WHOLE, WHOLE, WHOLE),
  )


def per_step(tx, loss):
  """One step per call; the loss is inside a cond."""
  value_and_grad = optax_predict.value_and_grad(loss)

  def step(params, state, batch):
    loss, gradients = value_and_grad(params, batch, state=state)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss

  return step


def calls(compiled, setup, single=None):
  """A run on the devices, and of every call what one device makes of its state.

  Rounding leads whole runs apart, but no call. Of each: parameters and loss by both,
  and how many steps both have taken.
  """
  params, state, found = setup.params, setup.state, []
  batch = jax.device_get(setup.batch)
  for _ in range(CALLS):
    before = jax.device_get((params, state))
    params, state, loss = compiled(params, state, setup.batch)
    if single is not None:
      ours, own = (params, state, loss), single(*before, batch)
      found.append(
        {
          "steps": [int(_steps(ours)), int(_steps(own))],
          "arrays": [_numbers((x[0], x[2])) for x in (ours, own)],
        }
      )
  return params, state, found


def _steps(result):
  return optax_predict.get_stats(result[1]).total_steps


def _numbers(tree):
  leaves = [np.asarray(x, float).ravel() for x in jax.tree.leaves(tree)]
  return np.concatenate(leaves).tolist()


@functools.cache
def on_one_device(rule):
  """The same call where nothing is split."""
  step = communication.predicting_step(optimizer(rule), communication.loss_fn)
  return jax.jit(step)


def measured(compiled, setup, single=None):
  """A run, and what its program sends at a true and at a predicted step."""
  params, state, found = calls(compiled, setup, single)
  wanted = setup.shardings[:2]
  stays = jax.tree.map(
    lambda x, on: x.sharding.is_equivalent_to(on, x.ndim),
    (params, state),
    wanted,
  )
  return {
    "calls": found,
    "steps": int(optax_predict.get_stats(state).total_steps),
    "true_gradients": int(optax_predict.get_stats(state).computed_steps),
    "stays_in_place": all(jax.tree.leaves(stays)),
    "collectives": [c._asdict() for c in hlo.collectives(compiled.as_text())],
  }


def run(rule, layout, mesh="Auto", loss=communication.loss_fn, make_step=None):
  if make_step is None:
    make_step = communication.predicting_step
  with jax.sharding.set_mesh(MESHES[mesh]):
    tx = optimizer(rule)
    setup = communication.place(tx, layout, MESHES[mesh])
    compiled = communication.compile_step(make_step(tx, loss), setup)
    row = communication.measure(compiled, setup)
  single = None if make_step is per_step else on_one_device(rule)
  return {"row": row, **measured(compiled, setup, single)}


def accelerated(layout, mesh="Auto", loss=communication.loss_fn):
  """Calls of a step with ``accelerate``; where its parameters and history are."""
  tx = optax_predict.accelerate(optax.adam(1e-2), RULES["secant"]())
  step = communication.plain_step(tx, loss)
  single = jax.jit(communication.plain_step(tx, communication.loss_fn))
  with jax.sharding.set_mesh(MESHES[mesh]):
    params, batch, on = communication.place_params(layout, MESHES[mesh])
    state = jax.jit(tx.init)(params)
    setup = communication.Setup(params, state, batch, None)
    params, state, found = calls(jax.jit(step), setup, single)
  by_shape = {x.shape: x for x in jax.tree.leaves(params)}
  trees = [x for x in jax.tree.leaves(state) if x.shape in by_shape]
  return {
    "calls": found,
    "steps": int(optax_predict.get_stats(state).total_steps),
    "true_gradients": int(optax_predict.get_stats(state).computed_steps),
    "params_stay": all(
      params[name].sharding.is_equivalent_to(on[name], 2) for name in params
    ),
    "trees_like_params": len(trees),
    "trees_stay": all(
      x.sharding.is_equivalent_to(by_shape[x.shape].sharding, x.ndim)
      for x in trees
    ),
  }


def of_dtype(dtype):
  """A sharded run in another precision; the same steps on one device."""
  horizon = optax_predict.horizons.fixed(2, min_correlation=-1.0)
  tx = optimizer("momentum", horizon)
  setup = communication.place(tx, "sharded", MESHES["Auto"], dtype)
  step = communication.predicting_step(tx, communication.loss_fn)
  compiled = communication.compile_step(step, setup)
  return measured(compiled, setup, jax.jit(step))


def slot_shardings(forecaster):
  """For each array as large as a parameter: is it where that parameter is?"""
  tx = optax.chain(
    optax_predict.predict_gradients(forecaster, correction_weight=0.5),
    optax.adam(1e-2),
  )
  setup = communication.place(tx, "sharded", MESHES["Auto"])
  by_shape = {x.shape: x.sharding for x in jax.tree.leaves(setup.params)}
  return [
    x.sharding.is_equivalent_to(by_shape[x.shape], x.ndim)
    for x in jax.tree.leaves(setup.state[0])
    if x.shape in by_shape
  ]


def error_of_split_parameters_in_shard_map():
  """The type of what JAX raises when the devices' scalars would differ."""
  tx = optimizer("momentum")
  params, batch = communication.data()
  state = tx.init(params)
  specs = optax.tree_map_params(
    tx, lambda _: SPLIT, state, transform_non_params=lambda _: WHOLE
  )
  split = {"w1": SPLIT, "w2": SPLIT}
  step = jax.shard_map(
    communication.predicting_step(tx, mean_over_devices),
    mesh=MESHES["Auto"],
    in_specs=(split, specs, SPLIT),
    out_specs=(split, specs, WHOLE),
  )
  # As if each device had a whole, smaller network.
  params = {"w1": jnp.ones((128, 8)), "w2": jnp.ones((64, 8))}
  try:
    jax.eval_shape(step, params, tx.init(params), batch)
  except Exception as error:
    return f"{type(error).__name__}: {error}"
  return None


def main():
  jax.config.update("jax_disable_most_optimizations", True)
  result = {
    "rows": communication.rows(MESHES["Auto"], (2,)),
    "runs": {
      "replicated": run("secant", "replicated"),
      "sharded": run("secant", "sharded"),
      "replicated, explicit mesh": run("momentum", "replicated", "Explicit"),
      "sharded, explicit mesh": run(
        "secant", "sharded", "Explicit", gathered_loss
      ),
      "loss in shard_map": run(
        "momentum", "replicated", loss=loss_in_shard_map
      ),
      "step in shard_map": run(
        "secant",
        "replicated",
        loss=mean_over_devices,
        make_step=step_in_shard_map,
      ),
    },
    "per_step": {
      "replicated": run("momentum", "replicated", make_step=per_step),
      "sharded": run("momentum", "sharded", make_step=per_step),
    },
    "accelerated": {
      "sharded": accelerated("sharded"),
      "sharded, explicit mesh": accelerated(
        "sharded", "Explicit", gathered_loss
      ),
    },
    "slots": {rule: slot_shardings(RULES[rule]()) for rule in RULES},
    "split in shard_map": error_of_split_parameters_in_shard_map(),
    "dtypes": {"bfloat16": of_dtype("bfloat16")},
  }
  with helpers.x64(True):
    result["dtypes"]["float64"] = of_dtype("float64")
  print(json.dumps(result))


if __name__ == "__main__":
  main()
