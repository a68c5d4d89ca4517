"""Cells on disk: compressed JSON, written in one move."""

import gzip
import json
import math
import os
import pathlib


def path(
  folder: pathlib.Path, task: str, method: str, stage: str
) -> pathlib.Path:
  """The file of one cell."""
  return folder / task.replace("/", "__") / f"{method}.{stage}.json.gz"


def number(x: float) -> float | None:
  """A float32 that reads back the same; null when it is not finite."""
  return float(f"{x:.9g}") if math.isfinite(x) else None


def save(file: pathlib.Path, content: dict) -> None:
  """Writes beside the file and moves: a killed run leaves no half cell."""
  file.parent.mkdir(parents=True, exist_ok=True)
  part = file.with_suffix(f".{os.getpid()}.part")
  with gzip.open(part, "wt") as stream:
    json.dump(content, stream)
  part.replace(file)


def load(file: pathlib.Path) -> dict:
  """Reads one cell."""
  with gzip.open(file, "rt") as stream:
    return json.load(stream)
