import pytest

from tests.clients import comparing

pytest.importorskip("flax", reason=comparing.REASON)

from benchmarks.clients import flax_linen


def test_train_state():
  comparing.assert_fewer_gradients(flax_linen.CLIENT, share=0.6)
