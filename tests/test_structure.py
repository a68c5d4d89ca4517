"""The layout: imports run one way, and nothing runs at import."""

import ast
import pathlib
import subprocess
import sys

import optax_predict

PACKAGE = pathlib.Path(optax_predict.__file__).parent

# What a module may import from this package.
LAYERS = [
  {"_checks"},
  {"_base"},
  {"_sums"},
  {"_backtest", "_basis"},
  {"_selection"},
  {"_pairs"},
  {"forecasters", "horizons"},
  {"_state"},
  {"_correction", "_limits", "_opt_state", "_parts", "_scoring"},
  {"_predicting", "_recording"},
  {"_predictor"},
  {"_transform"},
  {"_leaks"},
  {"_retreat"},
  {"_fast_forward", "_value_and_grad"},
  {"monitoring", "nnx"},
  {"_observed_run", "_report"},
  {"predictability"},
  {"__init__"},
  {"_demo"},
  {"__main__"},
]


def layer(module):
  return next(i for i, names in enumerate(LAYERS) if module in names)


def imports(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      parts = node.module.split(".")
      if parts[0] == "optax_predict":
        names = [parts[1]] if len(parts) > 1 else [a.name for a in node.names]
        yield from names


def test_imports_run_one_way():
  checked = 0
  for path in PACKAGE.rglob("*.py"):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    for name in imports(path):
      if name == parts[0]:
        continue  # inside a subpackage
      checked += 1
      assert layer(name) < layer(parts[0]), (path.name, name)
  assert checked > 15


def test_forecasters_do_not_know_each_other():
  for folder in ("forecasters", "horizons"):
    for path in (PACKAGE / folder).glob("*.py"):
      if path.name != "__init__.py":
        assert folder not in set(imports(path)), path


def test_runtime_needs_only_jax_and_optax():
  code = (
    "import sys, optax_predict;"
    "assert not {'flax', 'matplotlib', 'sklearn', 'tqdm'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
