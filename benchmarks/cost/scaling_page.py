"""Tables for docs/scaling.md, so that no number in it is typed by hand.

python -m benchmarks.cost.scaling_page docs/scaling.md

A table stands between two comments that a reader does not see:

  <!--table:memory-->
  <!--/table-->

Three of them are made from the JSON of `benchmarks.cost.communication`,
`benchmarks.cost.history_precision` and `examples/many_fits.py`; the state's memory
is measured here, from shapes alone.
"""

import argparse
import json
import pathlib
import re

import jax
import jax.numpy as jnp

import optax_predict

_RESULTS = pathlib.Path(__file__).parents[1] / "results"
_TABLE = re.compile(r"(<!--table:(\w+)-->\n)(.*?)(<!--/table-->)", re.S)
_PARAMETERS = 1_000_000


def _table(header: list[str], rows: list[list]) -> str:
  lines = [header, ["---"] * len(header), *rows]
  return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def communication(content: dict) -> str:
  """Bytes sent at a true gradient, per predicted step and on average."""
  rows = []
  for row in content["rows"]:
    predicted = row["predicted"]
    rows.append(
      [
        row["layout"],
        row["rule"],
        f"{row['true']['bytes']:,}",
        "" if row["rule"] == "none" else f"{predicted['bytes']:,}",
        "" if row["rule"] == "none" else predicted["collectives"],
        f"{row['steps_per_gradient']:.1f}",
        f"{row['bytes_per_step']:,.0f}",
      ]
    )
  header = ["parameters", "prediction", "true gradient", "predicted step"]
  header += ["messages in it", "steps per true gradient", "per step"]
  return _table(header, rows)


def _copies(forecaster, dtype) -> float:
  """Bytes of a state, over those of a million float32 parameters."""
  params = jax.ShapeDtypeStruct((_PARAMETERS,), jnp.float32)
  tx = optax_predict.predict_gradients(forecaster, accumulator_dtype=dtype)
  state = jax.eval_shape(tx.init, params)
  held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
  return held / (4 * _PARAMETERS)


def memory() -> str:
  """Copies of the parameters that each forecaster's state holds."""
  forecasters = optax_predict.forecasters
  rules = {
    "`momentum()`": forecasters.momentum(),
    "`holt()`": forecasters.holt(),
    "`trend()`": forecasters.trend(),
    "`secant(memory=5)`": forecasters.secant(5),
    "`secant()`, the default": forecasters.secant(),
    "`secant(memory=20)`": forecasters.secant(20),
  }
  rows = [
    [name, *(f"{_copies(rule, d):.2f}" for d in (None, jnp.bfloat16))]
    for name, rule in rules.items()
  ]
  return _table(["forecaster", "float32 history", "bfloat16 history"], rows)


def precision(content: dict) -> str:
  """True gradients to the target by precision of the history."""
  rows = [
    [
      f"`{row['task']}`",
      f"{row['rate']:.3g}",
      *(f"{n:g}" for n in row["true_gradients"].values()),
    ]
    for row in content["rows"]
  ]
  header = ["task", "rate", "no prediction", "float32 history"]
  return _table([*header, "bfloat16 history"], rows)


def fits(content: dict) -> str:
  """Calls until many fits are done, by the way they are put together."""
  rows = [
    [
      optimizer,
      way,
      f"{row['reached']} of {content['problems']}",
      f"{row['median']:g}",
      row["last"],
    ]
    for optimizer, ways in content["optimizers"].items()
    for way, row in ways.items()
  ]
  header = ["optimizer", "way", "reach the target", "calls, median"]
  return _table([*header, "calls, last"], rows)


def _read(results: pathlib.Path, name: str) -> dict:
  return json.loads((results / f"{name}.json").read_text())


def tables(results: pathlib.Path = _RESULTS) -> dict[str, str]:
  """Name -> Markdown of every table."""
  return {
    "communication": communication(_read(results, "communication")),
    "memory": memory(),
    "precision": precision(_read(results, "history_precision")),
    "fits": fits(_read(results, "many_fits")),
  }


def fill(text: str, found: dict[str, str]) -> str:
  """The text with every table filled; an unknown name is a KeyError."""
  return _TABLE.sub(lambda m: m[1] + found[m[2]] + m[4], text)


def main(argv: list[str] | None = None) -> None:
  """Fills the tables of a file in place."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.cost.scaling_page"
  )
  parser.add_argument("file", type=pathlib.Path)
  parser.add_argument("--results", type=pathlib.Path, default=_RESULTS)
  arguments = parser.parse_args(argv)
  text = arguments.file.read_text()
  arguments.file.write_text(fill(text, tables(arguments.results)))


if __name__ == "__main__":
  main()
