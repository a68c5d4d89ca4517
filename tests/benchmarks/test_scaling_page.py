"""The tables of docs/scaling.md are what the results say."""

import pathlib
import re

import pytest

from benchmarks.cost import history_precision
from benchmarks.cost import scaling_page

pytestmark = pytest.mark.usefixtures("quick_compilation")

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "scaling.md"


def test_page_is_what_its_command_writes():
  text, found = PAGE.read_text(), scaling_page.tables()
  assert set(re.findall(r"<!--table:(\w+)-->", text)) == set(found)
  assert text == scaling_page.fill(text, found)


def test_a_table_is_filled_and_an_unknown_one_refused():
  text = "before\n<!--table:memory-->\nold\n<!--/table-->\nafter"
  filled = scaling_page.fill(text, {"memory": "new\n"})
  assert filled == text.replace("old", "new")
  with pytest.raises(KeyError, match="memory"):
    scaling_page.fill(text, {})


def test_memory_of_the_default_is_its_formula():
  rows = scaling_page.memory().splitlines()
  (default,) = (row for row in rows if "default" in row)
  # 10 directions and three more, of which the directions can be half as large.
  assert default.endswith("| 13.00 | 8.00 |")


def test_history_precision_counts_true_gradients():
  row = history_precision.measure("quadratic_1e2")
  needed = row["true_gradients"]
  assert needed["float32"] < 0.6 * needed["none"]
  assert needed["bfloat16"] < 0.6 * needed["none"]
  # Two of three starts within a few gradients: the precision does not decide.
  assert abs(needed["float32"] - needed["bfloat16"]) <= 0.25 * needed["none"]
