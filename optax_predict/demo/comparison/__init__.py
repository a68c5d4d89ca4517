"""One loss, many optimizers: what the notebooks of the gallery share.

Every true gradient is counted, those of line searches too. Clocks start after
compiling. ``value_and_grad(params) -> (loss, gradient)`` can be compiled. For
several starts at once the loss is a vector: give ``jax.vmap`` of it, parameters
with a leading axis, and ``many(tx)`` for ``tx``.
"""

from optax_predict.demo.comparison.line_searches import run_optax_lbfgs
from optax_predict.demo.comparison.line_searches import run_scipy_lbfgs
from optax_predict.demo.comparison.optimizers import many
from optax_predict.demo.comparison.optimizers import run_optax
from optax_predict.demo.comparison.optimizers import tune
from optax_predict.demo.comparison.recording import final_loss
from optax_predict.demo.comparison.recording import follow
from optax_predict.demo.comparison.recording import gradients_to
from optax_predict.demo.comparison.recording import Run
from optax_predict.demo.comparison.recording import seconds_to
from optax_predict.demo.comparison.recording import stack
from optax_predict.demo.comparison.report import plot_runs
from optax_predict.demo.comparison.report import save
from optax_predict.demo.comparison.report import summarize
from optax_predict.demo.comparison.report import table

__all__ = [
  "Run",
  "final_loss",
  "follow",
  "gradients_to",
  "many",
  "plot_runs",
  "run_optax",
  "run_optax_lbfgs",
  "run_scipy_lbfgs",
  "save",
  "seconds_to",
  "stack",
  "summarize",
  "table",
  "tune",
]
