import numpy as np
import pytest

from tests.clients import comparing

pytest.importorskip("flax", reason=comparing.REASON)

from benchmarks.clients import _base
from benchmarks.clients import flax_nnx
import optax_predict


def test_optimizer():
  comparing.assert_fewer_gradients(flax_nnx.CLIENT, share=0.25)


def test_minibatches_come_out_as_without():
  client, ratios, shares = flax_nnx.MINIBATCH, [], []
  for seed in range(2):
    alone = client.run(client.optimizer(), is_small=True, seed=seed)
    run = client.run(_base.accelerated(client), is_small=True, seed=seed)
    # Of the same batches, three times all data.
    last = [np.mean(x.losses[-10:]) for x in (run, alone)]
    ratios.append(last[0] / last[1])
    stats = optax_predict.get_stats(run.opt_state)
    assert int(stats.computed_steps) == len(run.losses)
    shares.append(int(stats.predicted_steps) / int(stats.computed_steps))
  # The loss of three times all data varies by a tenth and more between seeds.
  np.testing.assert_allclose(ratios, 1.0, atol=0.05)
  assert max(shares) < 0.5
