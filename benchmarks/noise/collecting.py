"""From cells to results/noise.json: every final loss, and who went on."""

import json
import pathlib

from benchmarks.noise import cells
from benchmarks.noise import screening


def _benches(folder: pathlib.Path) -> list[cells.Bench]:
  return [
    cells.Bench(folder, p.name) for p in sorted(folder.glob("*")) if p.is_dir()
  ]


def _screens(folder: pathlib.Path) -> dict[str, dict]:
  found = {b.setting: b.load(cells.SCREEN) for b in _benches(folder)}
  return {setting: screen for setting, screen in found.items() if screen}


def finalists(folder: pathlib.Path) -> list[str]:
  """Who goes on; decided once, after the first stage."""
  file = folder / "finalists.json"
  if not file.exists():
    file.write_text(json.dumps(screening.finalists(_screens(folder))))
  return json.loads(file.read_text())


def collect(folder: pathlib.Path) -> dict:
  """Both stages of every setting.

  ``finals`` is setting -> schedule.length.rate -> rates and losses of seeds, of
  the settings whose second stage is whole. ``rests`` is setting -> the library
  and its base.

  Raises:
    SystemExit: if there is nothing to collect.
  """
  screens = _screens(folder)
  if not screens:
    raise SystemExit(f"no cells in {folder}: make some with `run`.")
  finals = {}
  for bench in _benches(folder):
    stages = [s for s in bench.stages() if s != cells.REST]
    if not bench.missing(stages):
      finals[bench.setting] = {s: bench.load(s) for s in stages}
  rests = {b.setting: b.load(cells.REST) for b in _benches(folder)}
  return {
    "screens": screens,
    "rests": {setting: cell for setting, cell in rests.items() if cell},
    "finalists": finalists(folder) if finals else [],
    "finals": finals,
  }
