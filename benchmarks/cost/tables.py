"""The part of the report about time, of whatever was measured."""

import json
import pathlib

from benchmarks import markdown


def _steps(found: dict) -> str:
  rows = [
    [
      r["forecaster"],
      r["form"],
      r["base"],
      # Results of before it could be flat have no such entry.
      f"{r['leaves']}, flat" if r.get("is_flat") else str(r["leaves"]),
      f"{r['parameters'] / 1e6:g}M",
      r["history"],
      f"{r['bare_us']:.0f}",
      f"{r['step_us']:.0f}",
      f"**{r['ratio']:.2f}**",
      f"{r['floor']:.2f}" if r["floor"] else "",
      _share_of_bandwidth(r, found["made"]),
      f"{r['host_reads']:g}",
      f"{r['compile_s']:.1f} / {r['bare_compile_s']:.1f}",
      str(r["copies"]),
      f"{r['temp_copies']:.1f}",
    ]
    for r in found["rows"]
  ]
  head = ["forecaster", "form", "base", "leaves", "parameters", "history"]
  head += ["bare step (us)", "step (us)", "ratio", "byte floor"]
  head += ["of the bandwidth", "host reads"]
  head += ["compile (s), ours / bare", "copies of an array"]
  return markdown.table([*head, "temp (parameter sizes)"], rows)


def _share_of_bandwidth(row: dict, made: dict) -> str:
  if not row["bytes"]:
    return ""
  return (
    f"{row['bytes'] / (1e-6 * row['step_us']) / made['bytes_per_second']:.0%}"
  )


def _accelerated(found: dict) -> str:
  def times(row, name):
    return f"{row['loop_s'][name] / row['loop_s']['base']:.1f}"

  def rest(seconds):
    # In a training step that takes as long as five updates.
    return f"{1 + (seconds['rest'] / seconds['base'] - 1) / 5:.2f}"

  rows = [
    [
      r["base"],
      f"{r['arrays']} / {r['numbers']:,}",
      f"{1e6 * r['loop_s']['base']:.3g} / {1e6 * r['call_s']['base']:.3g}",
      f"{1e6 * r['loop_s']['rest']:.3g} / {1e6 * r['call_s']['rest']:.3g}",
      f"{rest(r['loop_s'])} / {rest(r['call_s'])}",
      f"{1e6 * r['loop_s']['record']:.3g}",
      times(r, "record"),
      times(r, "window"),
      " / ".join(
        str(r["operations"][name])
        for name in ("update", "recording", "forecast")
      ),
      f"{r['state_arrays']} / {r['base_arrays']}",
      f"{r['compile_s']:.1f}",
    ]
    for r in found["rows"]
  ]
  head = ["base", "arrays / numbers", "update (us), loop / call"]
  head += [
    "resting (us), loop / call",
    "resting, step of 5 updates, loop / call",
  ]
  head += ["recorded (us)", "in updates", "with 32 steps, in updates"]
  head += [
    "operations: update / recording / forecast",
    "arrays of state / base's",
  ]
  return markdown.table([*head, "compile (s)"], rows)


def _wall(found: dict) -> str:
  def seconds(x):
    return "miss" if x is None else f"{x:.3f}"

  def ratio(x, y):
    return "" if x is None or y is None else f"{x / y:.2f}"

  rows = [
    [
      r["task"],
      r["base"],
      f"{r['times']} x {r['gradient_s'] / r['update_s']:.0f}",
      seconds(r["base_s"]),
      seconds(r["predict_s"]),
      f"**{ratio(r['base_s'], r['predict_s'])}**",
      f"{r['base_gradients']} / {r['predict_gradients']}",
      ratio(r["base_gradients"], r["predict_gradients"]),
      seconds(r["lbfgs_s"]),
      # The first run less the median: what was compiled before counts nothing.
      " / ".join(
        f"{max(r[key], 0):.1f}"
        for key in ("compile_base_s", "compile_predict_s")
      ),
    ]
    for r in found["rows"]
  ]
  head = ["task", "base", "times x gradient / update", "base (s)"]
  head += ["accelerated (s)", "speed-up", "true gradients", "their ratio"]
  return markdown.table([*head, "L-BFGS-B (s)", "compile (s)"], rows)


def _end_to_end(found: dict) -> str:
  rows = [
    [
      r["rule"],
      f"{found['parameters'] / 1e6:.1f}M",
      f"{1e3 * r['plain_seconds']:.1f}",
      f"{1e3 * r['seconds']:.1f}",
      f"{r['steps_per_gradient']:.2f}",
      f"**{r['speed_up']:.2f}**",
      f"{r['share_of_bound']:.0%}",
      f"{r['compile_s']:.1f}",
    ]
    for r in found["rows"]
  ]
  head = ["rule", "parameters", "plain step (ms)", "with prediction (ms)"]
  head += ["steps per gradient", "steps per second / plain", "of the bound"]
  return markdown.table([*head, "compile (s)"], rows)


def section(folder: pathlib.Path) -> str:
  """One table per device for each measurement that was made."""
  parts = []
  for kind, title, show in (
    ("accelerated", "What `accelerate` costs at a true gradient", _accelerated),
    ("step_cost", "Cost of a predicted step", _steps),
    ("end_to_end", "Steps per second on a transformer", _end_to_end),
    ("wall_time", "Wall time to the target", _wall),
  ):
    for file in sorted(folder.glob(f"{kind}*.json")):
      found = json.loads(file.read_text())
      made = found["made"]
      parts += [
        f"## {title}: {made['device']}\n",
        f"Made {made['date']}, optax_predict {made['optax_predict']}.\n",
        show(found),
      ]
  return "\n".join(parts)
