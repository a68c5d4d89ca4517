"""flowjax: ``fit_to_data`` on the example of its README, in full batches."""

import functools

from flowjax import distributions
from flowjax import flows
from flowjax import train
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.clients import _base

_POINTS, _SMALL_POINTS = 5000, 300
_EPOCHS, _SMALL_EPOCHS = 200, 60


def run(
  optimizer,
  is_small: bool = False,
  steps: int | None = None,
  batch_size: int | None = None,
  seed: int = 0,
) -> _base.Run:
  """A loss per epoch: with one batch of all points, per true gradient."""
  data_key, flow_key, train_key = jax.random.split(jax.random.key(seed), 3)
  points = _SMALL_POINTS if is_small else _POINTS
  epochs = steps or (_SMALL_EPOCHS if is_small else _EPOCHS)
  x = jax.random.uniform(data_key, (points, 2))
  flow = flows.block_neural_autoregressive_flow(
    key=flow_key, base_dist=distributions.Normal(jnp.zeros(2))
  )
  _, losses = train.fit_to_data(
    key=train_key,
    dist=flow,
    data=x,
    optimizer=optimizer,
    max_epochs=epochs,
    batch_size=batch_size or points,
    show_progress=False,
  )
  return _base.Run(np.asarray(losses["train"], np.float32))


CLIENT = _base.Client(
  library="flowjax",
  loop="`fit_to_data`, full batch",
  rule="Adam 5e-3",
  optimizer=lambda: optax.adam(5e-3),
  run=run,
)
# The example as it is.
MINIBATCH = CLIENT._replace(
  loop="`fit_to_data`, minibatches of 100",
  run=functools.partial(run, batch_size=100),
  is_noisy=True,
)
