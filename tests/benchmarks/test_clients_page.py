"""Counting true gradients of libraries' loops, and the page with its tables."""

import json
import pathlib
import re

import numpy as np

from benchmarks.clients import counting
from benchmarks.clients import tables
from benchmarks.cost import scaling_page

FOLDER = pathlib.Path(__file__).parents[2]
PAGE = FOLDER / "docs" / "clients.md"
RESULTS = FOLDER / "benchmarks" / "results" / "clients.json"
ROW = {
  "library": "gpjax",
  "version": "1.0.0",
  "loop": "`fit`",
  "rule": "Adam 1e-2",
  "gradients": [500, 25],
  "seconds": [10.04, 2.0],
  "gradients_to_gap": {"0.01": [138, 11], "1e-06": [500, None]},
}
MISSED = ROW | {"gradients": [500, None], "seconds": [10.04, None]}
SEEDS = [
  {"loss": [2.0, 1.9], "losses": 100, "predicted_steps": 7},
  {"loss": [4.0, 4.1], "losses": 100, "predicted_steps": 3},
]


def test_first_time_counts_and_rounding_does_not():
  losses = np.array([3.0, 2.0, 0.99, 1.5, 1.0], np.float32)
  assert counting.gradients_to(losses, counting.final_loss(losses)) == 3
  last = np.float32(1.0)
  near = np.array([3.0, last + 2e-7, last], np.float32)
  assert near[1] > last
  assert counting.gradients_to(near, counting.final_loss(near)) == 2
  far = np.array([3.0, last + 2e-6, last], np.float32)
  assert counting.gradients_to(far, counting.final_loss(far)) == 3


def test_final_loss_below_zero_is_no_harder_than_the_last():
  losses = np.array([-1.0, -1.1])
  assert losses[-1] < counting.final_loss(losses) < losses[-1] + 1e-12


def test_what_is_not_reached_is_none():
  losses = np.array([3.0, 2.0])
  assert counting.gradients_to(losses, 1.0) is None
  assert counting.gap_loss(losses, best=1.0, gap=0.25) == 1.5


def test_tables():
  rows = tables.gradients([ROW, MISSED]).splitlines()[2:]
  assert rows[0].endswith("| 500 | 25 | 0.05 | 10.0 | 2.0 |")
  assert rows[1].endswith("| 500 | not reached |  | 10.0 |  |")
  assert tables.gaps([ROW]).endswith("| 138 / 11 | 500 / not reached |\n")
  noisy = tables.noisy([ROW | {"seeds": SEEDS}])
  assert noisy.endswith("| 3 | 3 | 0.950 to 1.025 | 0.07 |\n")


def test_a_loop_that_misses_is_the_worst():
  assert tables.summary([ROW, ROW]).endswith("median 0.05, worst 0.05.\n")
  assert "worst not reached" in tables.summary([ROW, MISSED])


def test_page_has_every_table():
  content = {"rows": [ROW], "noisy": [ROW | {"seeds": SEEDS}]}
  marks = re.findall(r"<!--table:(\w+)-->", PAGE.read_text())
  assert set(marks) == set(tables.all_of(content))


def test_page_is_what_its_command_writes():
  text, content = PAGE.read_text(), json.loads(RESULTS.read_text())
  assert not content["is_small"]
  assert text == scaling_page.fill(text, tables.all_of(content))
