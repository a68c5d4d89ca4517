import pytest

from tests.clients import comparing

pytest.importorskip("diffrax", reason=comparing.REASON)

from benchmarks.clients import diffrax_ode


def test_neural_ode():
  comparing.assert_fewer_gradients(diffrax_ode.CLIENT, share=0.7)
