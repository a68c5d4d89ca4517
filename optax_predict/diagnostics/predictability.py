"""Are my gradients predictable? Ask before changing the training loop."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_predict import forecasters as _forecasters
from optax_predict import horizons as _horizons
from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.diagnostics import observed_run
from optax_predict.diagnostics.report import Expectation
from optax_predict.diagnostics.report import Report
from optax_predict.diagnostics.report import Score
from optax_predict.engine import predictor

__all__ = ["Expectation", "Report", "Score", "backtest", "measure"]

HORIZONS = (0, 1, 2, 4, 8, 16)


def measure(
  loss_fn: Callable[..., Any],
  params: Any,
  optimizer: optax.GradientTransformation,
  steps: int = 50,
  *,
  batches: Iterable[Any] | None = None,
  has_aux: bool = False,
  forecasters: Mapping[str, interfaces.Forecaster] | None = None,
  horizons: Sequence[int] = HORIZONS,
  rtol: float = 0.8,
) -> Report:
  r"""Runs an optimizer as it is and says how well its gradients are predicted.

  The run is the optimizer's own: forecasts are compared with the gradients and
  never used (:func:`backtest`). It is bit for bit the run of a loop that calls a
  compiled ``jax.value_and_grad(loss_fn)`` and then a compiled update. A loop that
  compiles both as one may round differently. The report holds the parameters and
  the optimizer state at the end, so no gradient is wasted.

  With batches, the gradient is also taken on the next batch at up to ten points of
  the run. No forecaster can know the difference between two batches at the same
  point. :attr:`Report.noise` is the least relative error that any of them can have,
  :math:`\sqrt{|g_1 - g_2|^2 / (|g_1|^2 + |g_2|^2)}` (medians of the squares).

  Args:
    loss_fn: ``loss_fn(params)``, or ``loss_fn(params, batch)`` with batches;
      returns a real scalar, or a pair of it and anything with ``has_aux``.
    params: where the run starts. Start where you want to know: early gradients
      may be less predictable than later ones.
    optimizer: the optimizer alone, without :func:`accelerate` or
      :func:`predict_gradients`. It is passed ``value=loss`` if it takes that.
    steps: true gradients to spend, at least 3; up to ten more on noise.
    batches: one batch per step, all of the same shapes. ``None``: the loss has
      no batch.
    has_aux: as for ``jax.value_and_grad``.
    forecasters: name -> forecaster; default momentum and secant.
    horizons: numbers of predicted steps between two true gradients to try,
      ascending from 0, with which a run starts.
    rtol: of :func:`horizons.adaptive`, for the expected saving.

  Returns:
    A :class:`Report`; ``print`` it, ``plot`` it.

  Raises:
    ValueError: if ``steps`` or ``horizons`` are too small, if there are fewer
      batches than steps, or if the optimizer predicts already.
    TypeError: if a forecaster, the loss or the optimizer is of another type.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> from optax_predict import forecasters, predictability
    >>> scales = jnp.array([1.0, 0.1, 0.01])
    >>> report = predictability.measure(
    ...   lambda x: 0.5 * jnp.sum(scales * x**2),
    ...   params=jnp.ones(3),
    ...   optimizer=optax.sgd(0.5),
    ...   forecasters={"secant": forecasters.secant(directions=4)},
    ... )
    >>> bool(report.expect().saving > 0.5)
    True
  """
  how = "measure(loss_fn, params, optimizer)"
  checks.check_callable("loss_fn", loss_fn, how)
  checks.check_optimizer("optimizer", optimizer, how)
  checks.check_count("steps", steps, 3)
  run = observed_run.ObservedRun(loss_fn, params, optimizer, batches, has_aux)
  report = backtest(
    run.trajectory(steps), forecasters=forecasters, horizons=horizons, rtol=rtol
  )
  return report._replace(
    losses=np.asarray(run.losses, np.float64),
    noise=run.noise(),
    params=run.params,
    opt_state=run.opt_state,
  )


def backtest(
  trajectory: Iterable[tuple[Any, Any]],
  *,
  forecasters: Mapping[str, interfaces.Forecaster] | None = None,
  horizons: Sequence[int] = HORIZONS,
  rtol: float = 0.8,
) -> Report:
  r"""Scores forecasters on a run that was made without them.

  For a horizon of h steps a forecaster is shown every (h + 1)-th gradient. Before
  each of them it is asked for it. That is what it sees when h steps between two true
  gradients are predicted. The error is the one that the adaptive horizon looks at,
  :math:`|\hat g - g| / \sqrt{|g| \, |g_{-1}|}`, a ratio of norms, with
  :math:`g_{-1}` the gradient it was shown last. The first two gradients fill the
  history and are not scored.

  The histories of all forecasters and horizons are kept at once: with the
  defaults 84 copies of the parameters. For a large model pass fewer
  horizons or ``{"secant": forecasters.secant(directions=4)}``.

  Args:
    trajectory: ``(params, gradients)`` at every step, in order; a generator
      around any training loop will do.
    forecasters: name -> forecaster; default momentum and secant.
    horizons: numbers of predicted steps between two true gradients to try,
      ascending from 0, with which a run starts.
    rtol: of :func:`horizons.adaptive`, for the expected saving.

  Returns:
    A :class:`Report` without losses and noise.

  Raises:
    ValueError: if ``horizons`` are not ascending from 0 on, or the
      trajectory is too short to score the smallest of them.
    TypeError: if a forecaster is of another type.
  """
  horizons = _check_horizons(horizons)
  checks.check_number("rtol", rtol, 0.0, 1.0, closed=False)
  named = _named(forecasters)
  states: dict[tuple[str, int], Any] = {}
  rows: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
  steps = 0
  for step, (params, gradients) in enumerate(trajectory):
    steps = step + 1
    for (name, forecaster), h in itertools.product(named.items(), horizons):
      if step == 0:
        states[name, h] = _init(forecaster, params)
      if step % (h + 1) == 0:
        state = _record(forecaster, states[name, h], gradients, params, h + 1)
        states[name, h] = state
        rows.setdefault((name, h), []).append(
          (
            step,
            state.statistics.relative_error,
            state.statistics.correlation,
            state.statistics.forecasts,
          )
        )
  scores = {
    name: {
      h: score
      for h in horizons
      if (score := _score(rows.get((name, h), []))) is not None
    }
    for name in named
  }
  if not all(scores.values()):
    raise ValueError(
      f"the trajectory has {steps} steps, too few with a finite gradient to"
      f" score a horizon of {horizons[0]}: it takes at least"
      f" {2 * (horizons[0] + 1) + 1}."
    )
  return Report(scores=scores, steps=steps, rtol=float(rtol))


def _score(rows):
  """The score of all forecasts that were made from two gradients or more."""
  kept, last = [], 1
  for step, error, correlation, count in rows:
    if (count := int(count)) > last:
      kept.append((step, float(error), float(correlation)))
      last = count
  return Score(*map(np.array, zip(*kept))) if kept else None


def _predictor_of(forecaster):
  # The horizon is never asked, and sets no limit.
  return predictor.gradient_predictor(forecaster, _horizons.fixed(1))


# Compiled once per forecaster and shapes: a sweep calls measure many times.
@functools.partial(jax.jit, static_argnums=0)
def _init(forecaster, params):
  return _predictor_of(forecaster).init(params)


@functools.partial(jax.jit, static_argnums=0)
def _record(forecaster, state, gradients, params, window):
  # The steps that a window of predicted ones would have counted. One is counted
  # already, and after a gradient that was left out, so are the windows before it.
  elapsed = jnp.where(
    state.true_gradient_count > 0, state.window.elapsed_steps + window - 1, 0
  )
  moved = state.window._replace(elapsed_steps=elapsed.astype(jnp.int32))
  state = state._replace(window=moved)
  return _predictor_of(forecaster).record_gradient(gradients, state, params)


@functools.cache
def _defaults():
  return {"momentum": _forecasters.momentum(), "secant": _forecasters.secant()}


def _named(forecasters):
  if forecasters is None:
    return _defaults()
  if not isinstance(forecasters, Mapping) or not forecasters:
    raise TypeError(
      "forecasters must map names to forecasters, as in"
      f' {{"mine": my_forecaster}}; got {forecasters!r}.'
    )
  for name, forecaster in forecasters.items():
    checks.check_instance(
      f"forecasters[{name!r}]",
      forecaster,
      interfaces.Forecaster,
      "optax_predict.forecasters",
    )
  return dict(forecasters)


def _check_horizons(horizons):
  checked = tuple(
    checks.check_count("a horizon", h, 0)
    for h in checks.check_sequence("horizons", horizons)
  )
  if not checked or list(checked) != sorted(set(checked)):
    raise ValueError(f"horizons must be ascending, got {horizons!r}.")
  return checked
