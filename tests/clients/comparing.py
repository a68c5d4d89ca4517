"""One library's loop, with its example's optimizer alone and accelerated."""

import numpy as np

from benchmarks.clients import _base
from benchmarks.clients import counting
import optax_predict

REASON = "a client, of the extra `clients`"


def assert_fewer_gradients(client, share):
  """The loss that the loop ends at, for a ``share`` of its true gradients.

  The share is twice what was measured and more, so that it does not hang on how
  a processor rounds.
  """
  alone = client.run(client.optimizer(), is_small=True)
  with_prediction = client.run(_base.accelerated(client), is_small=True)
  # Both began at the same place, and the first update is the optimizer's own.
  np.testing.assert_allclose(
    with_prediction.losses[0], alone.losses[0], rtol=1e-6
  )
  target = counting.final_loss(alone.losses)
  before = counting.gradients_to(alone.losses, target)
  after = counting.gradients_to(with_prediction.losses, target)
  assert after is not None, (target, with_prediction.losses.min())
  assert after <= share * before, (before, after)
  assert_every_call_counted(with_prediction)
  return with_prediction


def assert_every_call_counted(run):
  """A loss per true gradient, by the loop's count and by the predictor's."""
  if run.opt_state is None:
    return
  stats = optax_predict.get_stats(run.opt_state)
  assert int(stats.computed_steps) == len(run.losses)
  assert int(stats.predicted_steps) > 0
