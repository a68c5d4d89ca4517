"""What can be said of the notebooks without running them.

`.ci/notebooks.py` runs them.
"""

import ast
import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COLAB = (
  "https://colab.research.google.com/github/optax-predict/optax_predict/blob"
  "/main/notebooks/"
)


def cells(path, kind):
  return [
    cell
    for cell in json.loads(path.read_text())["cells"]
    if cell["cell_type"] == kind
  ]


def test_all_are_here():
  assert len(PATHS) >= 6


def check_executed(path):
  """The gallery is read without running it: figures, tables, no warnings."""
  outputs = [o for cell in cells(path, "code") for o in cell["outputs"]]
  kinds = {kind for o in outputs for kind in o.get("data", {})}
  assert {"image/png", "text/markdown"} <= kinds
  assert not any(o["output_type"] == "error" for o in outputs)
  assert not any(o.get("name") == "stderr" for o in outputs)
  texts = [o["text"] for o in outputs if "text" in o]
  texts += [o["data"].get("text/plain", "") for o in outputs if "data" in o]
  # No path of the machine that executed it.
  assert not re.search(r"/(home|root|tmp|work|usr)\b", json.dumps(texts))
  assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
class TestNotebook:
  def test_opens_in_colab(self, path):
    first = "".join(cells(path, "markdown")[0]["source"])
    assert f"({COLAB}{path.name})" in first
    assert f"({COLAB}{path.name})" in (ROOT / "docs/notebooks.md").read_text()

  def test_installs_itself_where_it_is_missing(self, path):
    first = "".join(cells(path, "code")[0]["source"])
    assert first.startswith("try:\n  import optax_predict\nexcept ImportError:")
    assert "%pip install" in first

  def test_is_stripped_or_complete(self, path):
    if path.stem.startswith("gallery_"):
      check_executed(path)
      return
    for cell in cells(path, "code"):
      assert cell["outputs"] == [] and cell["execution_count"] is None

  def test_uses_public_names_only(self, path):
    for cell in cells(path, "code")[1:]:
      for node in ast.walk(ast.parse("".join(cell["source"]))):
        names = []
        if isinstance(node, ast.Import):
          names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
          names = [node.module, *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute):
          names = [node.attr]
        # Those of a NamedTuple are public all the same.
        names = set(names) - {"_asdict", "_replace"}
        private = [n for n in names if any(p[:1] == "_" for p in n.split("."))]
        assert not private
