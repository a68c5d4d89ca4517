"""``fast_forward`` and ``value_and_grad`` for ``flax.nnx`` modules.

``flax.nnx.Optimizer`` keeps its state in ``Variable`` objects and changes
modules in place. These functions do so too; what they compute is what
:func:`optax_predict.fast_forward` and :func:`optax_predict.value_and_grad` do.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

try:
  from flax import nnx
except ImportError as error:
  raise ImportError(
    "optax_predict.nnx needs flax 0.11.0 or newer:"
    ' pip install "optax_predict[flax]"'
  ) from error

from optax_predict import forms
from optax_predict.core import checks
from optax_predict.core import trees
from optax_predict.engine import state as predict_state
from optax_predict.forms import predictor_states

# Renamed in flax 0.12.
_pure = nnx.as_pure if hasattr(nnx, "as_pure") else nnx.pure


def fast_forward(
  optimizer: nnx.Optimizer,
  model: Any,
  *,
  hold_schedules: bool = False,
  **extra_args: Any,
) -> None:
  """Takes all predicted steps of the window at once; evaluates no loss.

  Call it after ``optimizer.update(model, grads)``, inside ``nnx.jit`` or
  outside, where the loop alone is compiled. It changes the parameters of
  ``model`` that ``optimizer`` was built for (``wrt``), the optimizer's state and
  ``optimizer.step``, in place.
  The model is not called: BatchNorm statistics and the random streams of
  Dropout stay as they are.

  ``optimizer.step`` counts optimizer steps, the predicted ones too, as it would
  if ``optimizer.update`` had taken each of them.

  Args:
    optimizer: an ``nnx.Optimizer`` whose ``tx`` has
      :func:`optax_predict.predict_gradients` in it.
    model: the module the optimizer was built for.
    hold_schedules: as for :func:`optax_predict.fast_forward`.
    **extra_args: passed on to ``tx.update`` at every predicted step, for
      optimizers that need them: ``value=loss`` stands for the last known loss.

  Raises:
    TypeError: if ``optimizer`` is no ``nnx.Optimizer``.
    ValueError: if the optimizer's state holds no predictor's state.

  Examples:
    >>> from flax import nnx
    >>> import jax.numpy as jnp, optax
    >>> import optax_predict
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> tx = optax.chain(optax_predict.predict_gradients(), optax.sgd(0.1))
    >>> optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    >>> def loss_fn(model, x, y):
    ...   return jnp.mean((model(x) - y) ** 2)
    >>> @nnx.jit
    ... def train_step(model, optimizer, x, y):
    ...   loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
    ...   optimizer.update(model, grads)
    ...   optax_predict.nnx.fast_forward(optimizer, model)
    ...   return loss
    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> for _ in range(20):
    ...   loss = train_step(model, optimizer, x, jnp.ones([3, 1]))
    >>> stats = optax_predict.nnx.get_stats(optimizer)
    >>> print(stats.computed_steps, stats.predicted_steps > 40)
    20 True
  """
  if not isinstance(optimizer, nnx.Optimizer):
    raise TypeError(
      f"optimizer must be an nnx.Optimizer, got {type(optimizer).__name__}."
      " Call fast_forward(optimizer, model)."
    )
  params = _pure(nnx.state(model, optimizer.wrt))
  opt_state = _pure(optimizer.opt_state)
  before = predictor_states.get_stats(opt_state).total_steps
  params, opt_state = forms.fast_forward.fast_forward(
    optimizer.tx,
    params,
    opt_state,
    hold_schedules=hold_schedules,
    **_pure(extra_args),
  )
  taken = predictor_states.get_stats(opt_state).total_steps - before
  nnx.update(model, params)
  nnx.update(optimizer.opt_state, nnx.state(opt_state))
  optimizer.step[...] += taken.astype(optimizer.step[...].dtype)


def value_and_grad(
  fn: Callable[..., Any],
  argnums: int | nnx.DiffState | tuple[int | nnx.DiffState, ...] = 0,
  has_aux: bool = False,
) -> Callable[..., Any]:
  """``nnx.value_and_grad`` that evaluates only when a true gradient is due.

  One step per call, for loops that cannot take several; it holds an
  ``nnx.cond``. When no true gradient is due, ``fn`` is not evaluated, every
  module among its arguments stays as it is (BatchNorm statistics, random
  streams, metrics), and the gradients are zeros, which the predictor in the
  optimizer replaces by its forecast. Prefer :func:`fast_forward` where you can.

  Args:
    fn: as for ``nnx.value_and_grad``. It is traced twice, evaluated once. It may
      change variables of its arguments, and must not add any (``sow`` adds one
      the first time).
    argnums: as for ``nnx.value_and_grad``; ``nnx.DiffState(0, wrt)`` for an
      optimizer built with another ``wrt`` than ``nnx.Param``.
    has_aux: as for ``nnx.value_and_grad``.

  Returns:
    A function of ``fn``'s arguments, with ``state``, the optimizer's
    ``opt_state``, and optionally ``skipped``: what a skipped call returns for
    value and aux, of the structure, shapes and dtypes that ``fn`` returns.
    Without it, it is NaN: not evaluated.

  Raises:
    TypeError: at the call, if ``state`` is missing, or if ``fn`` returns an
      integer and there is no ``skipped``: integers have no NaN.
    ValueError: at the call, if ``state`` holds no predictor's state or
      ``skipped`` differs from what ``fn`` returns.

  Examples:
    >>> from flax import nnx
    >>> import jax.numpy as jnp, optax
    >>> import optax_predict, optax_predict.nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> tx = optax.chain(optax_predict.predict_gradients(), optax.sgd(0.1))
    >>> optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    >>> value_and_grad = optax_predict.nnx.value_and_grad(
    ...     lambda model, x, y: jnp.mean((model(x) - y) ** 2)
    ... )
    >>> @nnx.jit
    ... def train_step(model, optimizer, x, y, loss):
    ...   loss, grads = value_and_grad(
    ...       model, x, y, state=optimizer.opt_state, skipped=loss
    ...   )
    ...   optimizer.update(model, grads)
    ...   return loss
    >>> x, loss = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), jnp.inf
    >>> for _ in range(60):
    ...   loss = train_step(model, optimizer, x, jnp.ones([3, 1]), loss)
    >>> bool(optax_predict.nnx.get_stats(optimizer).computed_steps < 20)
    True
  """
  compute = nnx.value_and_grad(fn, argnums=argnums, has_aux=has_aux)

  def evaluate(args, kwargs):
    return compute(*args, **kwargs)

  def value_and_grad_fn(*args, state=None, skipped=None, **kwargs):
    if state is None:
      raise TypeError(
        "state= is missing: pass the optimizer's state, as in"
        " value_and_grad(model, batch, state=optimizer.opt_state)."
      )
    is_due = predictor_states.should_compute_full(_pure(state))
    shapes, gradients = nnx.eval_shape(evaluate, args, kwargs)
    value = _skipped_value(skipped, shapes)
    return nnx.cond(
      is_due,
      evaluate,
      lambda args, kwargs: (value, trees.zeros(gradients)),
      args,
      kwargs,
    )

  return value_and_grad_fn


def should_compute_full(optimizer: nnx.Optimizer) -> jax.Array:
  """:func:`optax_predict.should_compute_full` of an ``nnx.Optimizer``."""
  return predictor_states.should_compute_full(_pure(optimizer.opt_state))


def get_stats(optimizer: nnx.Optimizer) -> predict_state.PredictorStats:
  """:func:`optax_predict.get_stats` of an ``nnx.Optimizer``."""
  return predictor_states.get_stats(_pure(optimizer.opt_state))


def reset(optimizer: nnx.Optimizer) -> None:
  """:func:`optax_predict.reset` of an ``nnx.Optimizer``, in place.

  ``optimizer.step`` and the state of the optimizer itself stay.
  """
  opt_state = predictor_states.reset(_pure(optimizer.opt_state))
  nnx.update(optimizer.opt_state, nnx.state(opt_state))


def _skipped_value(skipped, shapes):
  """What a skipped call returns for value and aux: ``skipped``, else NaN."""
  if skipped is None:
    return jax.tree_util.tree_map_with_path(
      forms.value_and_grad.not_evaluated, shapes
    )
  checks.check_like("skipped", skipped, shapes)
  return jax.tree.map(
    lambda x, shape: jnp.asarray(x, shape.dtype), skipped, shapes
  )
