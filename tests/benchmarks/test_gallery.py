"""The gallery's page is what its JSON says; its notebooks are cleaned."""

import base64
import json
import math
import pathlib
import re

import pytest

from benchmarks.gallery import page

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gallery.json"
DOCS = ROOT / "docs"


def run(name, gradients, seconds=1.0):
  return {
    "name": name,
    "gradients": gradients,
    "seconds": seconds,
    "total_gradients": 100,
    "total_seconds": 2.0,
  }


def record(accelerated, scipy=10.0, seconds=1.0):
  return {
    "notebook": "gallery_pinn",
    "problem": "a problem",
    "made": {"device": "a processor"},
    "runs": {
      "tutorial": run("Adam", 100.0, 2.0),
      "tuned": run("Adam, tuned", 40.0),
      "scipy": run("SciPy L-BFGS-B", scipy),
      "optax": run("optax.lbfgs", None),
      "accelerated": run("accelerate(Adam)", accelerated, seconds),
    },
  }


def test_page_is_that_of_the_json():
  found = json.loads(RESULTS.read_text())
  assert (DOCS / "gallery.md").read_text() == page.text(found)
  assert {r["notebook"] for r in found.values()} == set(page.NOTEBOOKS)


def test_every_notebook_has_a_thumbnail_and_a_link():
  text = (DOCS / "gallery.md").read_text()
  for path in (ROOT / "notebooks").glob("gallery_*.ipynb"):
    assert f"gallery/{path.stem}.png" in text and f"{path.name}" in text
    thumbnail = DOCS / "gallery" / f"{path.stem}.png"
    assert 1000 < thumbnail.stat().st_size < 150_000


def test_ratios_and_misses():
  ours = record(20.0)
  assert page.ratio(ours, "tutorial") == 0.2
  assert page.ratio(ours, "tuned") == 0.5
  assert page.of_lbfgs(ours) == 2.0
  assert page.of_lbfgs(record(20.0, scipy=None)) == 0.0
  assert page.of_lbfgs(record(None, scipy=None)) == math.inf


def test_page_says_what_was_wanted_and_where_it_loses():
  good = page.text({"a": record(10.0)})
  assert good.count("| yes |") == 4 and "Nowhere." in good
  assert (
    "| a problem | 20 ms | Adam: 100 | **0.10** | 0.25 | 1.00 | 0.50 |" in good
  )
  slow = page.text({"a": record(50.0, seconds=3.0)})
  assert slow.count("| **no** |") == 4
  assert "tuned, the optimizer alone needs fewer" in slow
  assert "SciPy L-BFGS-B needs 10, the accelerated optimizer 50" in slow
  assert "takes longer" in slow
  missed = page.text({"a": record(None, seconds=None)})
  assert "does not get there" in missed and "a miss" in missed
  alone = page.text({"a": record(10.0, scipy=None)})
  assert "only it" in alone


NOTEBOOK = """
import os, pathlib
import matplotlib
matplotlib.use("module://matplotlib_inline.backend_inline")
from matplotlib import pyplot as plt
assert os.environ["GALLERY_SIZE"] == "full"
out = pathlib.Path(os.environ["GALLERY_OUT"])
(out / "gallery_tiny.json").write_text('{"problem": "tiny"}')
plt.figure(figsize=(9, 5))
plt.plot([1, 2])
plt.show()
"""


@pytest.fixture(name="gallery")
def _gallery():
  reason = "it executes a notebook: pip install '.[gallery,notebooks]'"
  pytest.importorskip("nbclient", reason=reason)
  pytest.importorskip("ipykernel", reason=reason)
  from benchmarks.gallery import running as gallery

  return gallery


def written(gallery, monkeypatch, tmp_path, source):
  from nbformat import v4

  monkeypatch.setattr(gallery, "NOTEBOOKS", tmp_path)
  notebook = v4.new_notebook(cells=[v4.new_code_cell(source)])
  path = tmp_path / "gallery_tiny.ipynb"
  path.write_text(json.dumps(notebook))
  return path


@pytest.mark.filterwarnings("default")
def test_a_notebook_is_executed_and_collected(gallery, monkeypatch, tmp_path):
  written(gallery, monkeypatch, tmp_path, NOTEBOOK)
  notebook, records = gallery.execute("gallery_tiny", "full")
  assert records == {"gallery_tiny": {"problem": "tiny"}}
  gallery.check(notebook)
  (png,) = gallery.figures(notebook)
  assert png.startswith(b"\x89PNG")
  gallery.thumbnail(png, tmp_path / "docs" / "tiny.png")
  assert (tmp_path / "docs" / "tiny.png").stat().st_size > 500
  assert "execution" not in json.dumps([c.metadata for c in notebook.cells])


def test_outputs_that_name_this_machine_are_refused(gallery):
  from nbformat import v4

  def notebook(*outputs):
    return v4.new_notebook(cells=[v4.new_code_cell("", outputs=list(outputs))])

  fine = v4.new_output("stream", name="stdout", text="a/b, 1/2, 3 ms")
  png = base64.b64encode(b"/home/").decode()
  picture = v4.new_output("display_data", data={"image/png": png})
  gallery.check(notebook(fine, picture))
  path = v4.new_output("stream", name="stdout", text=f"in {ROOT}/notebooks")
  warning = v4.new_output("stream", name="stderr", text="a warning")
  for output in (path, warning):
    with pytest.raises(RuntimeError, match=re.compile("machine|stderr")):
      gallery.check(notebook(fine, output))


def test_alarms_of_a_busy_machine_are_dropped(gallery):
  from nbformat import v4

  alarm = "E1128 02:35:51 1 slow_operation_alarm.cc:73] Very slow compile?"
  outputs = [
    v4.new_output("stream", name="stderr", text=alarm),
    v4.new_output("stream", name="stdout", text="kept"),
  ]
  notebook = v4.new_notebook(cells=[v4.new_code_cell("", outputs=outputs)])
  gallery.drop_alarms(notebook)
  gallery.check(notebook)
  assert [output.text for output in gallery.outputs(notebook)] == ["kept"]


def test_records_of_other_notebooks_stay(gallery, tmp_path):
  file = tmp_path / "gallery.json"
  gallery.merge(file, "gallery_b", {"b_1": {"x": 1}, "b_2": {"x": 2}})
  gallery.merge(file, "gallery_a", {"a": {"x": 3}})
  gallery.merge(file, "gallery_b", {"b_1": {"x": 4}})
  found = json.loads(file.read_text())
  assert {k: v["x"] for k, v in found.items()} == {"a": 3, "b_1": 4}
  assert found["a"]["notebook"] == "gallery_a" and found["a"]["made"]["device"]
