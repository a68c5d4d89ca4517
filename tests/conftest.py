"""Fixtures for all tests."""

import os
import subprocess
import sys
import tempfile

import jax
import pytest

_CACHE = pytest.StashKey[tempfile.TemporaryDirectory]()
_FLAGGED = pytest.StashKey[bool]()
_SETTINGS = {
  "jax_compilation_cache_dir": None,
  "jax_persistent_cache_min_compile_time_secs": 0,
  "jax_persistent_cache_min_entry_size_bytes": -1,
}
# The former of XLA's two ways to make code for a CPU: half the time for small programs.
_XLA_FLAG = "--xla_cpu_use_fusion_emitters=false"


def pytest_configure(config):
  """What workers, and what they start, compile with. That is most of the time.

  With ``XLA_FLAGS`` set, and be it to nothing, XLA is left as it is.
  """
  if "XLA_FLAGS" not in os.environ and _is_known(_XLA_FLAG):
    config.stash[_FLAGGED] = True
    os.environ["XLA_FLAGS"] = _XLA_FLAG
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  # One for all: many programs are the same.
  folder = tempfile.TemporaryDirectory(
    prefix="optax_predict_tests_", ignore_cleanup_errors=True
  )
  config.stash[_CACHE] = folder
  for name, value in _SETTINGS.items():
    value = folder.name if value is None else value
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)


def pytest_unconfigure(config):
  """In the process that set them only: workers find them in their environment."""
  if config.stash.get(_FLAGGED, False):
    del os.environ["XLA_FLAGS"]
  folder = config.stash.get(_CACHE, None)
  if folder is not None:
    jax.config.update("jax_compilation_cache_dir", None)
    for name in _SETTINGS:
      del os.environ[name.upper()]
    folder.cleanup()


@pytest.fixture(scope="module", autouse=True)
def forget_compiled():
  """A worker that keeps every program it has run needs five gigabytes in the end."""
  yield
  jax.clear_caches()


def _is_known(flag):
  """XLA ends a process that has a flag which it does not know."""
  command = [sys.executable, "-c", "import jax; jax.devices()"]
  environment = os.environ | {"XLA_FLAGS": flag}
  done = subprocess.run(command, env=environment, capture_output=True)
  return done.returncode == 0


@pytest.fixture(scope="module")
def quick_compilation():
  """For modules whose programs run a few times: compiling is most of the time."""
  name = "jax_disable_most_optimizations"
  before = jax.config.read(name)
  jax.config.update(name, True)
  yield
  jax.config.update(name, before)
