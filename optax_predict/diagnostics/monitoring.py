"""Pictures of a run and of a report; needs matplotlib."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from optax_predict.engine import state as predict_state

__all__ = ["plot_report", "plot_run"]

_LAYOUT = [["gradients"] * 3 + ["steps"] * 3, list("hheess")]
_PANELS = ("h", "e", "s")


def plot_run(
  stats: Sequence[predict_state.PredictorStats | Mapping[str, Any]],
  losses: Sequence[Any],
  *,
  baseline: Sequence[Any] | None = None,
  figure: Any = None,
) -> Any:
  """Draws what prediction did to a run.

  Five panels. Two show the loss, over true gradients and over optimizer steps. Three
  show, over true gradients, the horizon, the relative error of the forecasts and the
  share of steps that needed no true gradient.

  Args:
    stats: what :func:`get_stats` returned at each logged call (after
      ``fast_forward``, if you use it), or mappings with the same fields, as a logger
      kept them.
    losses: the loss at each logged call.
    baseline: losses of the same optimizer without prediction, one per true
      gradient, to draw beside them.
    figure: matplotlib figure to draw into; default a new one.

  Returns:
    The figure.

  Raises:
    ImportError: if matplotlib is not installed.
    ValueError: if nothing was logged, or if there are not as many losses as
      stats.

  Examples:
    >>> import jax, jax.numpy as jnp, optax, optax_predict
    >>> from optax_predict.diagnostics import monitoring
    >>> loss_fn = lambda x: 0.5 * jnp.sum(jnp.array([1.0, 0.1, 0.01]) * x**2)
    >>> rule = optax_predict.forecasters.momentum()
    >>> tx = optax_predict.accelerate(optax.sgd(1.0), rule)
    >>> params = jnp.ones(3)
    >>> opt_state = tx.init(params)
    >>> stats, losses = [], []
    >>> for _ in range(5):
    ...   loss, grads = jax.value_and_grad(loss_fn)(params)
    ...   updates, opt_state = tx.update(grads, opt_state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   stats.append(optax_predict.get_stats(opt_state))
    ...   losses.append(loss)
    >>> figure = monitoring.plot_run(stats, losses)  # doctest: +SKIP
  """
  if not stats or len(stats) != len(losses):
    raise ValueError(
      "pass what get_stats returned and the loss at each logged step, as many"
      f" of one as of the other; got {len(stats)} stats and {len(losses)}"
      " losses."
    )
  plt = _pyplot()
  if figure is None:
    figure = plt.figure(figsize=(10, 6), layout="constrained")
  axes = figure.subplot_mosaic(_LAYOUT)
  log = _columns(stats)
  gradients = log["computed_steps"]
  _loss(axes["gradients"], gradients, losses, "true gradients", baseline)
  _loss(axes["steps"], log["total_steps"], losses, "optimizer steps", baseline)
  axes["gradients"].set_ylabel("loss")
  if baseline is not None:
    axes["gradients"].legend()
  one = axes["h"]
  one.step(gradients, log["horizon"], where="post")
  one.set(title="steps predicted after each", ylim=(0, None))
  one = axes["e"]
  one.plot(gradients, log["recent_error"])
  one.axhline(1, color="grey", ls=":")
  one.text(0.98, 1.02, "useless", ha="right", transform=_left_to_right(one))
  one.set(title="relative error of forecasts", ylim=(0, 1.5))
  one = axes["s"]
  one.plot(gradients, 100 * log["prediction_ratio"])
  one.set(title="steps without a true gradient (%)", ylim=(0, 100))
  for name in _PANELS:
    axes[name].set_xlabel("true gradients")
  for one in axes.values():
    one.grid(alpha=0.3)
  return figure


def plot_report(report: Any, ax: Any = None) -> Any:
  """Draws the errors of a :class:`predictability.Report` over horizons.

  Args:
    report: what ``predictability.measure`` returned.
    ax: matplotlib axes to draw into; default new ones.

  Returns:
    The axes.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  plt = _pyplot()
  if ax is None:
    ax = plt.figure(figsize=(6, 4), layout="constrained").subplots()
  for name, scores in report.scores.items():
    errors = [report.error(name, h) for h in scores]
    ax.plot(1 + np.array(list(scores)), errors, "o-", label=name)
  label = f"windows grow below {report.balance:.2g}"
  ax.axhline(report.balance, color="black", ls="--", lw=1, label=label)
  if report.noise:
    ax.axhline(report.noise, color="grey", ls=":", label="noise: no better")
  horizons = sorted(set().union(*report.scores.values()))
  ax.set_xscale("log")
  ax.set_yscale("log")
  ax.set_xticks(1 + np.array(horizons), [str(h) for h in horizons])
  ax.minorticks_off()
  ax.set(
    xlabel="steps predicted in a row",
    ylabel="relative error at the next true gradient",
  )
  ax.grid(alpha=0.3)
  ax.legend()
  return ax


def _pyplot():
  try:
    from matplotlib import pyplot
  except ImportError as error:
    raise ImportError(
      "plots need matplotlib, which is not installed: pip install matplotlib"
    ) from error
  return pyplot


def _columns(stats):
  rows = [s if isinstance(s, Mapping) else s._asdict() for s in stats]
  return {
    name: np.array([float(row[name]) for row in rows])
    for name in predict_state.PredictorStats._fields
    if all(name in row for row in rows)
  }


def _loss(ax, x, losses, xlabel, baseline):
  losses = np.array([float(loss) for loss in losses])
  ax.plot(x, losses, label="with prediction")
  if baseline is not None:
    alone = np.array([float(loss) for loss in baseline])
    ax.plot(1 + np.arange(len(alone)), alone, "--", color="grey", label="alone")
  if np.all(losses > 0):
    ax.set_yscale("log")
  ax.set(xlabel=xlabel)


def _left_to_right(ax):
  """Transform: x as a share of the axes, y in the data's unit."""
  return ax.get_yaxis_transform()
