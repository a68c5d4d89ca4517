"""What a client is: a library's own loop at its documented example."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np
import optax


class Run(NamedTuple):
  """What one run of a library's loop leaves.

  Attributes:
    losses: of every true gradient, in order: the loss where it was evaluated.
    opt_state: the optimizer's last state; None where the library drops it.
  """

  losses: np.ndarray
  opt_state: Any = None


class Client(NamedTuple):
  """One library's loop.

  Attributes:
    library: the name it is installed by.
    loop: what of the library takes the optimizer, for a table.
    rule: the example's optimizer and rate, for a table.
    optimizer: makes that optimizer.
    run: the loop with any optimizer, at the documented or a small size:
      ``run(tx, is_small=False, steps=None)``, where ``steps`` ends it early.
      A noisy one takes ``seed`` too.
    passes_params: whether the loop gives parameters to ``update``.
    is_noisy: whether every gradient is of another minibatch.
  """

  library: str
  loop: str
  rule: str
  optimizer: Callable[[], optax.GradientTransformation]
  run: Callable[..., Run]
  passes_params: bool = True
  is_noisy: bool = False


def accelerated(client: Client) -> optax.GradientTransformation:
  """The example's own optimizer in ``optax_predict.accelerate``."""
  import optax_predict

  options = {} if client.passes_params else {"keep_params": True}
  return optax_predict.accelerate(client.optimizer(), **options)
