"""What the package brings along: nothing but jax and optax."""

import ast
import pathlib
import re
import subprocess
import sys
import tomllib

from packaging import requirements
from packaging import version

import optax_predict
from tests import helpers

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = pathlib.Path(optax_predict.__file__).parent

# They reach the network, run other programs or run what a file says.
FORBIDDEN = {
  "asyncio",
  "cloudpickle",
  "ctypes",
  "dill",
  "ftplib",
  "http",
  "joblib",
  "marshal",
  "multiprocessing",
  "pickle",
  "requests",
  "shelve",
  "smtplib",
  "socket",
  "ssl",
  "subprocess",
  "urllib",
  "xmlrpc",
}


def imported(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      yield node.module.split(".")[0]


def test_no_module_imports_network_or_pickle():
  seen = set()
  for path in PACKAGE.rglob("*.py"):
    found = set(imported(path))
    assert not found & FORBIDDEN, (path.name, found & FORBIDDEN)
    seen |= found
  assert {"jax", "optax"} <= seen


def test_import_and_training_open_no_connection_and_unpickle_nothing():
  """Python's own audit events say what really happens."""
  code = """
import sys
import jax, jax.numpy as jnp, optax
events = []
sys.addaudithook(lambda name, args: events.append(name))
before = set(sys.modules)
import optax_predict
brought = {name.split(".")[0] for name in set(sys.modules) - before}
assert brought <= {"optax_predict", "jax", *sys.stdlib_module_names}, brought
tx = optax.chain(
  optax_predict.predict_gradients(optax_predict.forecasters.secant(1)),
  optax.sgd(0.1),
)
x = jnp.ones(2)
state = tx.init(x)
updates, state = tx.update(x, state, x)
x, state = optax_predict.fast_forward(tx, x, state)
print(optax_predict.get_stats(state))
assert "import" in events
bad = ("socket.", "urllib.", "http.", "ftplib.", "pickle.", "marshal.load ",
       "subprocess.", "os.system", "os.exec", "os.posix_spawn")
assert not [name for name in events if name.startswith(bad)]
"""
  subprocess.run([*helpers.STRICT_PYTHON, "-c", code], check=True)


def test_nnx_comes_when_it_is_asked_for():
  code = """
import sys
import optax_predict
assert "flax" not in sys.modules
assert callable(optax_predict.nnx.fast_forward)
assert not hasattr(optax_predict, "another")
"""
  subprocess.run([sys.executable, "-c", code], check=True)


def project():
  return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(lines):
  return {requirements.Requirement(line).name.lower() for line in lines}


def test_only_jax_and_optax_are_needed():
  assert names(project()["dependencies"]) == {"jax", "jaxlib", "optax"}


def test_locked_versions_are_exact_and_what_the_project_asks_for():
  lines = (ROOT / ".ci" / "locked.txt").read_text().splitlines()
  # No hosts, no paths, no options: a name and a version.
  pinned = dict(
    re.fullmatch(r"([\w.-]+)==([\w.+!]+)", x).groups() for x in lines
  )
  pinned = {name.lower(): version.Version(v) for name, v in pinned.items()}
  assert len(pinned) == len(lines)
  metadata = project()
  asked = list(metadata["dependencies"])
  for extra in ("benchmarks", "demo", "test"):
    asked += metadata["optional-dependencies"][extra]
  for line in asked:
    requirement = requirements.Requirement(line)
    locked = pinned[requirement.name.lower()]
    assert locked in requirement.specifier, (line, locked)
