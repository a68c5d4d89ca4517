import jax
import optax
import pytest

from tests.clients import comparing

pytest.importorskip("pennylane", reason=comparing.REASON)

from benchmarks.clients import _base
from benchmarks.clients import pennylane_vqe

# Of pennylane 0.45 with jax 0.10.
pytestmark = pytest.mark.filterwarnings(
  "ignore:jax.core.is_concrete is deprecated:DeprecationWarning"
)
_COMPILATION = "/jax/core/compile/backend_compile_duration"


def test_vqe():
  comparing.assert_fewer_gradients(pennylane_vqe.CLIENT, share=0.75)


def test_a_loop_that_is_not_compiled_compiles_one_window():
  found, per_call = [], []

  def listen(event, duration, **rest):
    del duration, rest
    if event == _COMPILATION:
      found.append(event)

  def counted(tx):
    def update(*args, **kwargs):
      before = len(found)
      result = tx.update(*args, **kwargs)
      per_call.append(len(found) - before)
      return result

    return optax.GradientTransformationExtraArgs(tx.init, update)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    pennylane_vqe.run(
      counted(_base.accelerated(pennylane_vqe.CLIENT)), is_small=True
    )
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert per_call[0] > 0
  # Weak types settle in the second call.
  assert per_call[2:] == [0] * (len(per_call) - 2)
