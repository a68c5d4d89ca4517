import pytest

from tests.clients import comparing

pytest.importorskip("jinns", reason=comparing.REASON)

from benchmarks.clients import jinns_solve

# Of jinns 1.10 with equinox 0.13.
pytestmark = pytest.mark.filterwarnings(
  r"ignore:Using `field\(init=False\)` on `equinox.Module`:UserWarning"
)


def test_solve():
  comparing.assert_fewer_gradients(jinns_solve.CLIENT, share=0.4)
