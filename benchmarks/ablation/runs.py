"""The settings of the ablation, and how they run."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.methods import opponents
from benchmarks.reliability import comparing
from benchmarks.reliability import families
from benchmarks.reliability import running
import optax_predict
from optax_predict import forecasters
from optax_predict import horizons

BASES = tuple(opponents.BASES)
# The problems that defaults may be chosen by; what is published of the defaults
# is measured on those of another seed, and on one family more.
CHOSEN = tuple(f for f in families.FAMILIES if f.name != "oscillations")
SIZE = comparing.Size(
  count=10,
  seed=0,
  chosen=CHOSEN,
  rates=tuple(comparing.RATES.items())[:2],
)
# Shares of the gap that count, and the ratio of a run that needs more than
# twice the base's gradients, or misses.
TAUS = ("0.01", "0.001")
WORST = 2.0
HARM = 1.1


def _secant(**options) -> running.Accelerate:
  return _forecaster(functools.partial(forecasters.secant, **options))


def _adaptive(**options) -> running.Accelerate:
  """The default forecaster; an option of None switches that limit off."""
  given = {k: v for k, v in options.items() if v is not None}
  lifted = {k: None for k in options.keys() - given.keys()}
  return _horizon(lambda: horizons.adaptive(**given)._replace(**lifted))


def _forecaster(build) -> running.Accelerate:
  return lambda base: optax_predict.accelerate(base, build())


def _horizon(build) -> running.Accelerate:
  return lambda base: optax_predict.accelerate(base, horizon=build())


def _without_slope():
  """The default, blind to whether the loss still falls."""
  horizon = horizons.adaptive()

  def update(error, state):
    return horizon.update(error._replace(slope=0.0), state)

  return horizon._replace(update=update)


def _changes(make, **values) -> dict[str, running.Accelerate]:
  """One setting per value of one option."""
  return {
    f"{name}={str(value).lower() if value is None else value}": make(
      **{name: value}
    )
    for name, listed in values.items()
    for value in listed
  }


SETTINGS: dict[str, running.Accelerate] = {
  "default": optax_predict.accelerate,
  **_changes(
    _secant,
    memory=(2, 5, 20),
    damping=(0.0,),
    staleness=((1e-2,),),
    cubic=(0.0, 0.2, 1.0),
    directions=(4, 6, 20),
  ),
  "bfloat16 history": functools.partial(
    optax_predict.accelerate, accumulator_dtype=jnp.bfloat16
  ),
  **_changes(
    _adaptive,
    rtol=(0.4,),
    max_steps=(8,),
    max_growth=(1.4, None),
    max_expected_error=(0.6, 0.8, None),
    max_error=(2.0, None),
  ),
  "without the slope": _horizon(_without_slope),
  "max_expected_error=0.4, no trust": _adaptive(
    max_expected_error=0.4, trust=None
  ),
  "max_expected_error=0.8, no trust": _adaptive(
    max_expected_error=0.8, trust=None
  ),
  "horizon shorten_on_loss(adaptive())": _horizon(
    lambda: horizons.shorten_on_loss(horizons.adaptive())
  ),
  "horizon fixed(4)": _horizon(lambda: horizons.fixed(4)),
  "forecaster trend": _forecaster(forecasters.trend),
  "forecaster trend, decay=0": _forecaster(
    functools.partial(forecasters.trend, decay=0.0)
  ),
  "forecaster holt": _forecaster(forecasters.holt),
  "forecaster momentum": _forecaster(forecasters.momentum),
  "the original rule": functools.partial(
    optax_predict.accelerate, **opponents.original_rule()
  ),
}


def measure(
  base: str, settings: list[str], size: comparing.Size
) -> dict[str, dict[str, Any]]:
  """Runs settings with one base optimizer.

  Args:
    base: key of ``reliability.running.BASES``.
    settings: keys of ``SETTINGS``.
    size: how much to run.

  Returns:
    For each setting: ``log_ratio``, the mean logarithm of true gradients
    relative to the base alone, over problems, rates and ``TAUS``; how many of
    them, ``counted``, are above ``HARM``, ``harmed``; how many of ``runs`` were
    ``lost``.
  """
  alone, found = comparing.alone(base, size), {}
  for setting in settings:
    outcome = comparing.against(alone, SETTINGS[setting], alone.start)
    found[setting] = summary(outcome)
  return found


def summary(outcome: dict[str, Any]) -> dict[str, Any]:
  """What the table needs of ``comparing.against``."""
  every = [rate["ratios"][tau] for rate in outcome.values() for tau in TAUS]
  flat = np.concatenate(every)
  # A target that the base alone does not reach says nothing.
  flat = flat[~np.isnan(flat)]
  return {
    "log_ratio": float(np.mean(np.log(np.minimum(flat, WORST)))),
    "counted": len(flat),
    "harmed": int(np.sum(flat > HARM)),
    "lost": sum(len(rate["lost"]) for rate in outcome.values()),
    "runs": sum(len(rate["predicted_steps"]) for rate in outcome.values()),
  }
