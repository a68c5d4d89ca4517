import pytest

from tests.clients import comparing

pytest.importorskip("numpyro", reason=comparing.REASON)

from benchmarks.clients import numpyro_svi


def test_svi():
  comparing.assert_fewer_gradients(numpyro_svi.CLIENT, share=0.5)
