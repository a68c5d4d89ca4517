"""Executes the gallery's notebooks and collects what they measured.

At full size a notebook keeps its outputs, one of its figures becomes the thumbnail
of the page, and its numbers go into `gallery.json`, beside those of the
notebooks that did not run this time.
"""

import base64
import io
import json
import os
import pathlib
import re
import sys
import tempfile
import time
from typing import Any
from unittest import mock

import nbclient
import nbformat

from benchmarks import environment
from benchmarks.gallery import page

_ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = _ROOT / "notebooks"
_DOCS = _ROOT / "docs"
_LIMIT_SECONDS = 3600
_THUMBNAIL = (420, 240)
# The figure that says most, where it is not the first.
_FIGURES = {"gallery_inverse": -1}
# Where a home, a temporary folder or an environment may be.
_MACHINE = re.compile(r"(/home|/root|/tmp|/work|/Users|site-packages)\b")


def names() -> list[str]:
  """All notebooks of the gallery."""
  return sorted(path.stem for path in NOTEBOOKS.glob("gallery_*.ipynb"))


def run(folder: pathlib.Path, chosen: list[str], is_full: bool) -> None:
  """Executes notebooks one after the other; an exception in one ends it.

  Args:
    folder: of `gallery.json`.
    chosen: which notebooks.
    is_full: otherwise the small size, of which only the numbers are kept.
  """
  for name in chosen:
    started = time.monotonic()
    notebook, records = execute(name, "full" if is_full else "small")
    if is_full:
      drop_alarms(notebook)
      check(notebook)
    merge(folder / "gallery.json", name, records)
    if is_full:
      nbformat.write(notebook, NOTEBOOKS / f"{name}.ipynb")
      png = figures(notebook)[_FIGURES.get(name, 0)]
      thumbnail(png, _DOCS / "gallery" / f"{name}.png")
    print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
  if is_full:
    write_page(folder)


def write_page(folder: pathlib.Path) -> None:
  """`docs/gallery.md` from the JSON alone."""
  found = json.loads((folder / "gallery.json").read_text())
  (_DOCS / "gallery.md").write_text(page.text(found))


def execute(name: str, size: str) -> tuple[Any, dict[str, dict]]:
  """The executed notebook, and the records that it wrote."""
  notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
  paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
  with tempfile.TemporaryDirectory() as out:
    variables = {
      "GALLERY_OUT": out,
      "GALLERY_SIZE": size,
      "PYTHONPATH": os.pathsep.join(filter(None, paths)),
      # What compiling takes is among the results.
      "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    with mock.patch.dict(os.environ, variables):
      nbclient.NotebookClient(
        notebook,
        timeout=_LIMIT_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        # Cells are not stamped with the time.
        record_timing=False,
      ).execute()
    written = sorted(pathlib.Path(out).glob("*.json"))
    records = {path.stem: json.loads(path.read_text()) for path in written}
  if not records:
    raise RuntimeError(f"{name} wrote nothing into GALLERY_OUT")
  notebook.metadata.language_info = {"name": "python"}
  return notebook, records


def merge(file: pathlib.Path, name: str, records: dict[str, dict]) -> None:
  """Replaces what the file has of a notebook."""
  found = json.loads(file.read_text()) if file.exists() else {}
  found = {k: v for k, v in found.items() if v["notebook"] != name}
  made = environment.describe()
  for key, record in records.items():
    found[key] = {"notebook": name, "made": made} | record
  text = json.dumps(dict(sorted(found.items())), indent=1, allow_nan=False)
  file.write_text(text + "\n")


def outputs(notebook: Any) -> list[Any]:
  """Of all cells, in order."""
  cells = (cell for cell in notebook.cells if cell.cell_type == "code")
  return [output for cell in cells for output in cell.outputs]


def drop_alarms(notebook: Any) -> None:
  """Without what XLA says of a machine that is busy while it compiles."""
  for cell in notebook.cells:
    if cell.cell_type == "code":
      cell.outputs = [
        output
        for output in cell.outputs
        if "slow_operation_alarm" not in output.get("text", "")
      ]


def check(notebook: Any) -> None:
  """Outputs are for readers: no warnings, and nothing of this machine."""
  for output in outputs(notebook):
    if output.get("name") == "stderr":
      raise RuntimeError(f"a cell wrote to stderr: {output.text}")
    data = {k: v for k, v in output.get("data", {}).items() if "png" not in k}
    text = json.dumps([output.get("text", ""), data])
    places = [str(_ROOT), sys.prefix, str(pathlib.Path.home())]
    if _MACHINE.search(text) or any(place in text for place in places):
      raise RuntimeError(f"an output names a path of this machine: {text}")


def figures(notebook: Any) -> list[bytes]:
  """PNG files among the outputs."""
  found = [
    output.get("data", {}).get("image/png") for output in outputs(notebook)
  ]
  return [base64.b64decode(png) for png in found if png]


def thumbnail(png: bytes, file: pathlib.Path) -> None:
  """A figure, small."""
  from PIL import Image

  image = Image.open(io.BytesIO(png)).convert("RGB")
  image.thumbnail(_THUMBNAIL)
  file.parent.mkdir(exist_ok=True)
  image.save(file, optimize=True)
