import pytest

from tests.clients import comparing

pytest.importorskip("gpjax", reason=comparing.REASON)

from benchmarks.clients import gpjax_fit


def test_fit():
  comparing.assert_fewer_gradients(gpjax_fit.CLIENT, share=0.25)
