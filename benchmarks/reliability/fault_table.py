"""Every fault at every position of a window, with prediction and without."""

from collections.abc import Callable
import functools
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
import optax

from benchmarks.reliability import faults
import optax_predict

# Rates that suit the problem of ``faults``.
BASES = {
  "sgd": (optax.sgd, 1.0),
  "momentum": (functools.partial(optax.sgd, momentum=0.9), 0.1),
  "adam": (optax.adam, 0.1),
}


class Results(NamedTuple):
  """All cases of one optimizer; arrays ``[n]``.

  Attributes:
    case: the cases.
    is_finite: whether parameters and state stayed finite.
    recovery: true gradients after the fault until a step was predicted again;
      infinite for never.
    end: the last loss, relative to the first.
    base_end: the same of the base alone after the same fault.
  """

  case: faults.Case
  is_finite: np.ndarray
  recovery: np.ndarray
  end: np.ndarray
  base_end: np.ndarray


def inject(
  name: str,
  case: faults.Case,
  forecaster: optax_predict.Forecaster | None = None,
) -> Results:
  """Runs all cases with one base optimizer.

  Args:
    name: key of ``BASES``.
    case: arrays ``[n]``.
    forecaster: default the library's.
  """
  make, rate = BASES[name]

  def traces(predicts):
    run = _mapped(make, rate, forecaster, predicts)
    return jax.tree.map(np.asarray, run(case))

  alone, predicting = traces(False), traces(True)
  return Results(
    case,
    predicting.is_finite.all(axis=1),
    recovery(case, predicting.predicted_steps),
    predicting.losses[:, -1] / alone.losses[:, 0],
    alone.losses[:, -1] / alone.losses[:, 0],
  )


def _mapped(make: Callable[[Any], Any], rate, forecaster, predicts):
  return jax.jit(
    jax.vmap(lambda case: faults.run(make, rate, case, forecaster, predicts))
  )


def recovery(case: faults.Case, predicted_steps: np.ndarray) -> np.ndarray:
  """True gradients from the end of the fault to the next predicted step.

  Args:
    case: arrays ``[n]``.
    predicted_steps: taken so far, by call, ``[n, CALLS]``.
  """
  steps = np.diff(predicted_steps, axis=1, prepend=0) > 0
  calls = np.arange(steps.shape[1])
  # Faults of the problem go on; what counts is when they began.
  own = np.array(faults.durations())[np.asarray(case.fault)]
  end = case.first + np.where(own > 0, own, case.length)
  after = steps & (calls >= end[:, None])
  counted = after.argmax(axis=1) + 1.0 - end
  return np.where(after.any(axis=1), counted, np.inf)


def rows(results: Results) -> list[dict[str, Any]]:
  """One row per fault; ``end_worst`` is the largest end above the base's."""
  found = []
  for number, name in enumerate(faults.names()):
    at = np.asarray(results.case.fault) == number
    if at.any():
      found.append(
        {
          "fault": name,
          "cases": int(at.sum()),
          "finite": int(results.is_finite[at].sum()),
          "recovery_median": float(np.median(results.recovery[at])),
          "recovery_worst": float(results.recovery[at].max()),
          "end_worst": float((results.end - results.base_end)[at].max()),
        }
      )
  return found
