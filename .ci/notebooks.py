"""Runs every notebook from top to bottom; needs nbclient, ipykernel, nbformat.

  python .ci/notebooks.py [NAME ...]

With --strip, outputs and counts are removed from the files instead. Those of the
gallery stay: they are made by `python -m benchmarks gallery`, and here those
notebooks run at their small size, for errors only.
"""

from concurrent import futures
import os
import pathlib
import sys
import time

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
LIMIT_SECONDS = 600


def strip(path: pathlib.Path) -> None:
  """Leaves source only, so that a diff shows what a person changed."""
  if path.stem.startswith("gallery_"):
    return
  notebook = nbformat.read(path, as_version=4)
  for cell in notebook.cells:
    cell.metadata = {}
    if cell.cell_type == "code":
      cell.outputs, cell.execution_count = [], None
  nbformat.write(notebook, path)


def run(path: pathlib.Path) -> None:
  """Executes a notebook; an exception in a cell is raised here."""
  notebook = nbformat.read(path, as_version=4)
  started = time.monotonic()
  client = nbclient.NotebookClient(
    notebook,
    timeout=LIMIT_SECONDS,
    kernel_name="python3",
    resources={"metadata": {"path": str(FOLDER)}},
  )
  client.execute()
  print(f"{path.name}: {time.monotonic() - started:.0f} s", flush=True)


def main(arguments: list[str]) -> None:
  """Strips or runs the named notebooks, or all of them."""
  act = strip if "--strip" in arguments else run
  names = [a.removesuffix(".ipynb") for a in arguments if a != "--strip"]
  paths = sorted(FOLDER.glob("*.ipynb"))
  unknown = set(names) - {path.stem for path in paths}
  if unknown or not paths:
    raise SystemExit(f"no notebooks {sorted(unknown)} in {FOLDER.name}/")
  chosen = [path for path in paths if not names or path.stem in names]
  os.environ["GALLERY_SIZE"] = "small"
  os.environ.pop("GALLERY_OUT", None)
  # Kernels are processes of their own: two cores, two notebooks.
  with futures.ThreadPoolExecutor(2) as pool:
    list(pool.map(act, chosen))


if __name__ == "__main__":
  main(sys.argv[1:])
