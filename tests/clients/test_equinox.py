import pytest

from tests.clients import comparing

pytest.importorskip("equinox", reason=comparing.REASON)

from benchmarks.clients import equinox_mlp


def test_training_step():
  comparing.assert_fewer_gradients(equinox_mlp.CLIENT, share=0.4)
