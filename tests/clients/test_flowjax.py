import pytest

from tests.clients import comparing

pytest.importorskip("flowjax", reason=comparing.REASON)

from benchmarks.clients import flowjax_fit


def test_fit_to_data():
  comparing.assert_fewer_gradients(flowjax_fit.CLIENT, share=0.4)
