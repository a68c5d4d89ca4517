"""Goes on with a checkpoint on eight devices; for `test_checkpoints.py`.

python -m tests.checkpoint_program FROM TO STEPS

JAX reads the number of devices once: this is a process of its own. Restores the
run saved in FROM, its parameters split over eight devices, takes some steps and
saves it in TO.
"""

import os
import sys

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import optax
from orbax import checkpoint

from tests import test_checkpoints


def sharded_target(tx, params):
  """Shapes, dtypes and places of parameters and state."""
  mesh = jax.make_mesh((8,), ("devices",))
  split = NamedSharding(mesh, PartitionSpec("devices"))
  everywhere = NamedSharding(mesh, PartitionSpec())

  def on(sharding):
    return lambda x, *_: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding
    )

  state = optax.tree_map_params(
    tx,
    on(split),
    jax.eval_shape(tx.init, params),
    transform_non_params=on(everywhere),
  )
  return jax.tree.map(on(split), params), state


def main(source, target, steps):
  tx = test_checkpoints.optimizer()
  wanted = sharded_target(tx, test_checkpoints.start())
  with checkpoint.StandardCheckpointer() as checkpointer:
    carry = checkpointer.restore(source, wanted)
    assert all(
      jax.tree.leaves(
        jax.tree.map(lambda x, w: x.sharding == w.sharding, carry, wanted)
      )
    )
    carry = test_checkpoints.advance(tx, carry, steps)
    checkpointer.save(target, carry)
    checkpointer.wait_until_finished()


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
