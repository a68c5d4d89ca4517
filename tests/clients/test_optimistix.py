import pytest

from tests.clients import comparing

pytest.importorskip("optimistix", reason=comparing.REASON)

from benchmarks.clients import optimistix_minimiser


def test_minimiser():
  comparing.assert_fewer_gradients(optimistix_minimiser.CLIENT, share=0.2)
