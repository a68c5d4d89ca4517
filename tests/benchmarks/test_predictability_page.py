"""The page shows what its JSON holds."""

import json

import numpy as np
import pytest

from benchmarks import predictability as page


def cell(expected, saved, **changes):
  found = dict(
    task="hill",
    base="sgd",
    rate=0.1,
    horizon=3.0,
    expected=expected,
    saved=saved,
    predicted=0.5,
  )
  return found | changes


def test_stored_page_is_made_from_the_stored_json():
  found = json.loads(page.RESULTS.read_text())
  text = page.PAGE.read_text()
  assert len(found["cells"]) > 20
  assert page.fill(text, found) == text
  assert page.section(found) in text


def test_rank_correlation_is_spearmans():
  stats = pytest.importorskip("scipy.stats")
  rng = np.random.default_rng(0)
  pairs = rng.integers(0, 6, size=(30, 2)) / 6
  cells = [cell(*pair) for pair in pairs]
  wanted = stats.spearmanr(*pairs.T).statistic
  assert page.rank_correlation(cells) == pytest.approx(wanted)


def test_section_counts_what_it_lists():
  found = {
    "steps": 50,
    "made": {
      "date": "2020-01-02",
      "device": "abacus",
      "optax_predict": "0",
      "versions": {"jax": "1", "optax": "2"},
    },
    "cells": [cell(0.5, 0.3), cell(0.7, 0.6, task="vale"), cell(0.1, 0.1)],
  }
  text = page.section(found)
  assert "3 runs on 2 reporting tasks, 50 true gradients" in text
  assert "is 1.00; they differ by 10 percentage points in the median" in text
  assert "by 20 at most" in text
  assert "| vale | sgd | 3.0 | 70% | 60% | 50% |" in text
  rows = [line for line in text.splitlines() if line.startswith("| ")]
  assert [row.split(" | ")[3] for row in rows[2:]] == ["70%", "50%", "10%"]


@pytest.mark.parametrize(
  "taus, rate", [((1e-1, 1e-3, 1e-5), 0.2), ((1e-1,), 0.1), ((1e-2, 1e-5), 0.4)]
)
def test_rate_is_the_tuned_one_for_the_target_nearest_the_middle(taus, rate):
  rates = {1e-1: 0.1, 1e-2: 0.4, 1e-3: 0.2, 1e-5: 0.3}
  rows = [
    {"method": "sgd", "mode": "tuned", "tau": tau, "rate": rates[tau]}
    for tau in taus
  ]
  task = {"taus": list(taus), "rows": rows}
  assert page.tuned_rate(task, "sgd") == rate
  assert page.tuned_rate(task, "adam") is None
