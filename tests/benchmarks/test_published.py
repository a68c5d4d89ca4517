"""What is published is what the JSON says."""

import json
import pathlib

import pytest

from benchmarks import quotes
from benchmarks.savings import report

_ROOT = pathlib.Path(__file__).parents[2]
_RESULTS = _ROOT / "benchmarks" / "results"
_FILES = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md")])


@pytest.fixture(name="summary", scope="module")
def _summary():
  return json.loads((_RESULTS / "summary.json").read_text())


@pytest.fixture(name="found", scope="module")
def _found():
  return quotes.published(_RESULTS)


def test_results_are_those_of_the_json(summary):
  written = (_RESULTS.parent / "RESULTS.md").read_text()
  assert written == report.text(_RESULTS, summary, "results/")


@pytest.mark.parametrize("file", _FILES, ids=lambda p: p.name)
def test_quoted_numbers_are_those_of_the_json(file, found):
  text = file.read_text()
  assert text == quotes.fill(text, found)


def test_a_quote_is_filled_and_an_unknown_one_refused():
  text = "saves <!--result:sgd.tuned.saving-->?<!--/result--> of them"
  filled = quotes.fill(text, {"sgd.tuned.saving": "50%"})
  assert filled.endswith("-->50%<!--/result--> of them")
  assert quotes.fill(filled, {"sgd.tuned.saving": "50%"}) == filled
  with pytest.raises(KeyError):
    quotes.fill(text, {})
