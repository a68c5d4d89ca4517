"""Fits many small problems at once: what each way of doing so saves.

  python examples/many_fits.py [--out results.json]

Sixteen damped oscillations, each with its own parameters to find. All are
fitted in lockstep: one call evaluates the loss and gradient of every problem
once, and what counts is the number of calls until a problem is at its target.
"""

import argparse
import json
import pathlib

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

import optax_predict

PROBLEMS = 16
CALLS = 400
# Of the loss at the start.
TARGET = 1e-4
OPTIMIZERS = {
  "SGD, rate 0.3": optax.sgd(0.3),
  "momentum, rate 0.1": optax.sgd(0.1, momentum=0.9),
}
_TIMES = np.linspace(0, 4, 60, dtype=np.float32)


def problems(count: int = PROBLEMS) -> tuple[jax.Array, jax.Array]:
  """Starts ``[count, 4]`` and measured curves ``[count, 60]``."""
  rng = np.random.default_rng(0)
  truth = np.array([1.0, 0.5, 2.0, 0.0])
  truth = truth + rng.uniform(-0.4, 0.4, (count, 4))
  curves = jax.vmap(curve)(jnp.asarray(truth, jnp.float32))
  return jnp.tile(jnp.array([1.0, 0.5, 2.0, 0.0]), (count, 1)), curves


def curve(params: jax.Array) -> jax.Array:
  """A damped oscillation: amplitude, decay, frequency and offset."""
  amplitude, decay, frequency, offset = params
  envelope = amplitude * jnp.exp(-decay * _TIMES)
  return envelope * jnp.cos(frequency * _TIMES) + offset


def loss_fn(params: jax.Array, measured: jax.Array) -> jax.Array:
  """Mean squared misfit of one problem."""
  return jnp.mean((curve(params) - measured) ** 2)


def predicting(
  base: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """The optimizer with prediction in front; the memory suits four parameters."""
  secant = optax_predict.forecasters.secant(memory=4)
  return optax.chain(optax_predict.predict_gradients(secant), base)


def train_step(tx, loss, is_predicting: bool):
  """One true gradient, then the window's predicted steps."""

  def step(params, state, measured):
    value, gradients = jax.value_and_grad(loss)(params, measured)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    if is_predicting:
      params, state = optax_predict.fast_forward(tx, params, state)
    return params, state, value

  return step


def one_by_one(tx, is_predicting: bool, starts, curves) -> jax.Array:
  """Losses ``[calls, problems]``: `vmap` of the whole training step.

  Each problem has its own forecasts and its own number of predicted steps; the
  loop goes on until the last one's window has ended.
  """
  step = jax.vmap(train_step(tx, loss_fn, is_predicting))

  def body(carry, _):
    params, state, losses = step(*carry, curves)
    return (params, state), losses

  carry = starts, jax.vmap(tx.init)(starts)
  return lax.scan(body, carry, None, length=CALLS)[1]


def together(tx, starts, curves) -> jax.Array:
  """Losses ``[calls, problems]``: one tree of parameters, one summed loss.

  One predictor for all: a single number of predicted steps.
  """
  each = jax.vmap(loss_fn)
  step = train_step(tx, lambda p, c: jnp.sum(each(p, c)), True)

  def body(carry, _):
    losses = each(carry[0], curves)  # For the record.
    params, state, _ = step(*carry, curves)
    return (params, state), losses

  return lax.scan(body, (starts, tx.init(starts)), None, length=CALLS)[1]


def summary(losses: np.ndarray) -> dict:
  """How many problems reach their target, and calls of the median and last.

  Args:
    losses: ``[calls, problems]``.

  Returns:
    ``reached``, ``median`` over all problems and ``last`` of those that reach
    it, in calls.
  """
  is_there = losses <= TARGET * losses[:1]
  reached = is_there.any(axis=0)
  calls = np.where(reached, is_there.argmax(axis=0) + 1, np.inf)
  return {
    "reached": int(reached.sum()),
    "median": float(np.median(calls)),
    "last": int(calls[reached].max()),
  }


def compare(base: optax.GradientTransformation) -> dict[str, dict]:
  """Every way's summary; a call is one true gradient of every problem."""
  data, tx = problems(), predicting(base)
  ways = {
    "without prediction": lambda: one_by_one(base, False, *data),
    "vmap of the training step": lambda: one_by_one(tx, True, *data),
    "one tree, summed loss": lambda: together(tx, *data),
  }
  return {k: summary(np.asarray(jax.jit(f)())) for k, f in ways.items()}


def main(argv: list[str] | None = None) -> None:
  """Prints the comparison, and writes it as JSON where asked."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=pathlib.Path)
  arguments = parser.parse_args(argv)
  found = {name: compare(base) for name, base in OPTIMIZERS.items()}
  print(f"{PROBLEMS} fits in lockstep; calls until one is at its target:")
  for name, ways in found.items():
    print(f"{name:27}  reached  median  last")
    for way, row in ways.items():
      print(f"{way:27} {row['reached']:8} {row['median']:7} {row['last']:5}")
  if arguments.out is not None:
    content = {"problems": PROBLEMS, "target": TARGET, "optimizers": found}
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
  main()
