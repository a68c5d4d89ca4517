import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
  """Most of the time here is compilation of code that runs only once."""
  name = "jax_disable_most_optimizations"
  before = jax.config.read(name)
  jax.config.update(name, True)
  yield
  jax.config.update(name, before)
