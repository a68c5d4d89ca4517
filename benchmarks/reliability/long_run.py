"""A million steps: counters, statistics and memory after a long time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_predict

_CURVATURES = np.array([1.0, 0.1, 0.01], np.float32)


def loss(x: jax.Array, time: jax.Array) -> jax.Array:
  """A bowl whose minimum moves in circles, so that gradients never end."""
  angle = 2 * jnp.pi * (time % 1000) / 1000
  target = jnp.stack([jnp.sin(angle), jnp.cos(angle), jnp.sin(2 * angle)])
  return 0.5 * jnp.sum(jnp.asarray(_CURVATURES) * (x - target) ** 2)


def run(
  steps: int,
  segments: int = 10,
  forecaster: optax_predict.Forecaster | None = None,
) -> list[dict[str, Any]]:
  """Runs one scan per segment, the state handed from one to the next.

  Args:
    steps: optimizer steps in all, true and predicted.
    segments: parts of the run that are reported apart.
    forecaster: default the library's.

  Returns:
    One row per segment: steps so far, mean loss and mean relative error of the
    segment, share of predicted steps in it, difference between the state's
    running mean of all errors and the mean computed beside it, bytes of live
    arrays, whether everything was finite.
  """
  tx = optax.chain(
    optax_predict.predict_gradients(forecaster), optax.sgd(0.5, momentum=0.5)
  )

  def step(carry, time):
    x, state = carry
    due = optax_predict.should_compute_full(state)
    value, gradient = jax.value_and_grad(loss)(x, time)
    before = state[0].statistics.forecasts
    updates, state = tx.update(gradient, state, x)
    x = optax.apply_updates(x, updates)
    had_forecast = state[0].statistics.forecasts > before
    error = jnp.where(had_forecast, state[0].statistics.relative_error, 0)
    return (x, state), (value, error, due, had_forecast)

  @jax.jit
  def segment(carry, first):
    times = first + jnp.arange(steps // segments)
    return jax.lax.scan(step, carry, times)

  x = jnp.zeros(3)
  carry = (x, jax.jit(tx.init)(x))
  found, errors, forecasts = [], 0.0, 0
  for number in range(segments):
    carry, traced = segment(carry, number * (steps // segments))
    values, error, due, had_forecast = (np.float64(t) for t in traced)
    errors, forecasts = errors + error.sum(), forecasts + had_forecast.sum()
    stats = optax_predict.get_stats(carry[1])
    found.append(
      {
        "steps": int(stats.total_steps),
        "loss": float(values.mean()),
        "error": float(error.sum() / max(had_forecast.sum(), 1)),
        "predicted": float(1 - due.mean()),
        "drift": float(stats.mean_error / (errors / max(forecasts, 1)) - 1),
        "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(carry)),
        "finite": bool(
          all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(carry))
        ),
      }
    )
  return found
