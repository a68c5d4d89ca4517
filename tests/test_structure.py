"""The layout: imports run one way between folders, and nothing runs at import."""

import ast
import pathlib
import subprocess
import sys

import pytest

import optax_predict

PACKAGE = pathlib.Path(optax_predict.__file__).parent
BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"

# What may import what stands before it.
LAYERS = [
  {"core"},
  {"forecasters", "horizons"},
  {"engine"},
  {"forms"},
  {"diagnostics", "nnx"},
  {"__init__"},
  {"demo"},
  {"__main__"},
]
LONGEST_FILE = 300


def layer(name):
  return next(i for i, names in enumerate(LAYERS) if name in names)


def imported_modules(path, package="optax_predict"):
  """Dotted names, below the package, of what a file imports of it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      parts = node.module.split(".")
      if parts[0] == package:
        for alias in node.names:
          yield (*parts[1:], alias.name)


def test_imports_run_one_way():
  checked = 0
  for path in PACKAGE.rglob("*.py"):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    for name, *_ in imported_modules(path):
      if name == parts[0]:
        continue  # inside a folder
      checked += 1
      assert layer(name) < layer(parts[0]), (path.name, name)
  assert checked > 15


@pytest.mark.parametrize(
  "folder", [PACKAGE, BENCHMARKS], ids=["package", "benchmarks"]
)
def test_no_module_is_imported_in_a_circle(folder):
  modules = {
    path.relative_to(folder).with_suffix("").parts: path
    for path in folder.rglob("*.py")
  }
  assert len(modules) > 30
  imports = {
    name: {
      other
      for found in imported_modules(path, folder.name)
      for other in (found, found[:-1])
      if other in modules and other != name
    }
    for name, path in modules.items()
  }
  while imports:
    free = {name for name, found in imports.items() if not found}
    assert free, f"in a circle: {sorted(imports)}"
    imports = {
      name: found - free for name, found in imports.items() if name not in free
    }


def test_no_file_holds_two_ideas():
  for path in PACKAGE.rglob("*.py"):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE, path.name


def test_forecasters_do_not_know_each_other():
  for folder in ("forecasters", "horizons"):
    for path in (PACKAGE / folder).glob("*.py"):
      if path.name != "__init__.py":
        assert folder not in {n for n, *_ in imported_modules(path)}, path


def test_runtime_needs_only_jax_and_optax():
  code = (
    "import sys, optax_predict;"
    "assert not {'flax', 'matplotlib', 'sklearn', 'tqdm'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
