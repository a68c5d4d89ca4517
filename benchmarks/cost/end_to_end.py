"""Optimizer steps per second on a transformer, with and without prediction.

python -m benchmarks.cost.end_to_end [--width 768 --depth 12 ...]

With K predicted steps after every true gradient, no rule can take more than
K + 1 times the steps of the plain loop in the same time; the share of that
bound that is reached is what prediction itself costs.
"""

import argparse
import json
import pathlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks import environment
from benchmarks.cost import timing
import optax_predict

_RESULTS = pathlib.Path(__file__).parents[1] / "results"
_VOCABULARY = 1024
_STEPS = 4


class _Block(nn.Module):
  dtype: Any

  @nn.compact
  def __call__(self, x, _):
    mask = nn.make_causal_mask(x[..., 0])
    heads = max(1, x.shape[-1] // 64)
    y = nn.LayerNorm(dtype=self.dtype)(x)
    x = x + nn.MultiHeadDotProductAttention(heads, dtype=self.dtype)(
      y, mask=mask
    )
    y = nn.LayerNorm(dtype=self.dtype)(x)
    y = nn.gelu(nn.Dense(4 * x.shape[-1], dtype=self.dtype)(y))
    return x + nn.Dense(x.shape[-1], dtype=self.dtype)(y), None


class _Transformer(nn.Module):
  width: int
  depth: int
  dtype: Any

  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(_VOCABULARY, self.width, dtype=self.dtype)(tokens)
    # Stacked layers, as large models have them: few leaves at any depth.
    blocks = nn.scan(
      _Block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      length=self.depth,
    )
    x, _ = blocks(self.dtype)(x, None)
    return nn.Dense(_VOCABULARY, dtype=self.dtype)(x).astype(jnp.float32)


def _fixed(forecaster):
  return optax_predict.predict_gradients(
    forecaster,
    optax_predict.horizons.fixed(_STEPS, min_correlation=-1.0),
    accumulator_dtype=jnp.bfloat16,
  )


def _rules() -> dict[str, Any]:
  """Name -> predictor."""
  forecasters = optax_predict.forecasters
  return {
    f"momentum, {_STEPS} steps": _fixed(forecasters.momentum()),
    f"secant, {_STEPS} steps": _fixed(forecasters.secant()),
    f"secant(5), {_STEPS} steps": _fixed(forecasters.secant(5)),
    "default": optax_predict.predict_gradients(),
    "default, bfloat16 history": optax_predict.predict_gradients(
      accumulator_dtype=jnp.bfloat16
    ),
  }


def _train_step(tx, loss_fn, is_predicting: bool):
  def step(params, state, tokens):
    loss, grads = jax.value_and_grad(loss_fn)(params, tokens)
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    if is_predicting:
      params, state = optax_predict.fast_forward(tx, params, state)
    return params, state, loss

  return step


class _Loop:
  """One contestant: a compiled step that feeds itself."""

  def __init__(self, rule, module, tokens):
    base = optax.adam(1e-4)
    tx = base if rule is None else optax.chain(rule, base)

    def loss_fn(params, tokens):
      logits = module.apply({"params": params}, tokens[:, :-1])
      return optax.softmax_cross_entropy_with_integer_labels(
        logits, tokens[:, 1:]
      ).mean()

    params = module.init(jax.random.key(0), tokens[:1, :-1])["params"]
    self._carry, self._tokens = (params, tx.init(params)), tokens
    self._is_predicting = rule is not None
    self.program = timing.Program(
      _train_step(tx, loss_fn, self._is_predicting),
      *self._carry,
      tokens,
      donate=(0, 1),
    )

  def __call__(self):
    *self._carry, loss = self.program(*self._carry, self._tokens)
    return loss

  def steps(self) -> int:
    """Optimizer steps taken so far."""
    if not self._is_predicting:
      return 0
    return int(optax_predict.get_stats(self._carry[1]).total_steps)


def measure(module, tokens, rules: list[str], rounds: int) -> list[dict]:
  """One row per rule, timed in turns with the plain loop."""
  rows, plain = [], _Loop(None, module, tokens)
  for name in rules:
    rule = _rules()[name]
    loop = _Loop(rule, module, tokens)
    for _ in range(3):
      jax.block_until_ready(loop())
    before = loop.steps()
    seconds = timing.interleaved({"ours": loop, "plain": plain}, rounds)
    steps = (loop.steps() - before) / (rounds + 1)
    slower = sum(seconds["ours"]) / sum(seconds["plain"])
    rows.append(
      {
        "rule": name,
        "steps_per_gradient": steps,
        "seconds": sum(seconds["ours"]) / rounds,
        "plain_seconds": sum(seconds["plain"]) / rounds,
        "steps_per_second": steps * rounds / sum(seconds["ours"]),
        "speed_up": steps / slower,
        "share_of_bound": 1 / slower,
        "compile_s": loop.program.compile_s,
        "plain_compile_s": plain.program.compile_s,
      }
    )
    print(rows[-1], flush=True)
    del loop
  return rows


def main(argv: list[str] | None = None) -> None:
  """Measures one transformer and writes one JSON file for this device."""
  is_cpu = jax.default_backend() == "cpu"
  parser = argparse.ArgumentParser(prog="python -m benchmarks.cost.end_to_end")
  parser.add_argument("--width", type=int, default=128 if is_cpu else 768)
  parser.add_argument("--depth", type=int, default=2 if is_cpu else 14)
  parser.add_argument("--batch", type=int, default=8 if is_cpu else 16)
  parser.add_argument("--length", type=int, default=64 if is_cpu else 512)
  parser.add_argument("--rules", nargs="+", default=list(_rules()))
  parser.add_argument("--rounds", type=int, default=10)
  parser.add_argument("--results", type=pathlib.Path, default=_RESULTS)
  arguments = parser.parse_args(argv)
  dtype = jnp.float32 if is_cpu else jnp.bfloat16
  module = _Transformer(arguments.width, arguments.depth, dtype)
  shape = (arguments.batch, arguments.length + 1)
  tokens = jax.random.randint(jax.random.key(1), shape, 0, _VOCABULARY)
  params = jax.eval_shape(module.init, jax.random.key(0), tokens[:1, :-1])
  count = sum(x.size for x in jax.tree.leaves(params))
  made = environment.describe()
  rows = measure(module, tokens, arguments.rules, arguments.rounds)
  arguments.results.mkdir(parents=True, exist_ok=True)
  file = arguments.results / f"end_to_end_{environment.slug(made)}.json"
  content = {"made": made, "parameters": count, "dtype": dtype.__name__}
  content["rows"] = rows
  file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
  main()
