"""Fixtures for all tests."""

import os
import tempfile

import jax
import pytest

_CACHE = pytest.StashKey[tempfile.TemporaryDirectory]()
_SETTINGS = {
  "jax_compilation_cache_dir": None,
  "jax_persistent_cache_min_compile_time_secs": 0,
  "jax_persistent_cache_min_entry_size_bytes": -1,
}


def pytest_configure(config):
  """One cache of compiled programs for all workers, and what they start.

  Compiling is most of the time, and many programs are the same.
  """
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  folder = tempfile.TemporaryDirectory(
    prefix="optax_predict_tests_", ignore_cleanup_errors=True
  )
  config.stash[_CACHE] = folder
  for name, value in _SETTINGS.items():
    value = folder.name if value is None else value
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)


def pytest_unconfigure(config):
  """In the process that made it only: workers find it in their environment."""
  folder = config.stash.get(_CACHE, None)
  if folder is not None:
    jax.config.update("jax_compilation_cache_dir", None)
    for name in _SETTINGS:
      del os.environ[name.upper()]
    folder.cleanup()


@pytest.fixture(scope="module")
def quick_compilation():
  """For modules whose programs run a few times: compiling is most of the time."""
  name = "jax_disable_most_optimizations"
  before = jax.config.read(name)
  jax.config.update(name, True)
  yield
  jax.config.update(name, before)
