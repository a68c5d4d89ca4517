"""Fixtures for all tests."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compilation():
  """For modules whose programs run a few times: compiling is most of the time."""
  name = "jax_disable_most_optimizations"
  before = jax.config.read(name)
  jax.config.update(name, True)
  yield
  jax.config.update(name, before)
