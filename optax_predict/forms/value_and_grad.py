"""One step per call: the loss is evaluated when a true gradient is due."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from optax_predict.core import checks
from optax_predict.core import trees
from optax_predict.forms import predictor_states


def value_and_grad(
  fun: Callable[..., Any],
  argnums: int | tuple[int, ...] = 0,
  has_aux: bool = False,
  holomorphic: bool = False,
) -> Callable[..., Any]:
  """``jax.value_and_grad`` that evaluates only when a true gradient is due.

  One step per call, for loops that cannot take several: the returned function
  takes the optimizer state as ``state=`` and holds a ``lax.cond``. When a true
  gradient is due it is ``jax.value_and_grad(fun)``; otherwise ``fun`` is not
  evaluated and the gradients are zeros, which the predictor in the optimizer
  replaces by its forecast.

  What a skipped call returns for value and aux is passed as ``skipped=``: the
  last loss, BatchNorm statistics as they are. Without it, it is NaN: not
  evaluated.

  This form decides on the next step before it knows where that step starts: a
  window in which a forecast is expected to be poor or an update grew too long
  ends one step later than with :func:`fast_forward`. It does not see the
  optimizer: :func:`check_chain` says whether one uses a gradient that was
  skipped. On CPU, convolutions
  inside a ``lax.cond`` run many times slower than outside; prefer
  :func:`fast_forward` there.

  Args:
    fun: as for ``jax.value_and_grad``. It is traced twice, evaluated once.
      Arguments of its own named ``state`` or ``skipped`` are passed by position.
    argnums: as for ``jax.value_and_grad``.
    has_aux: as for ``jax.value_and_grad``.
    holomorphic: as for ``jax.value_and_grad``.

  Returns:
    A function of ``fun``'s arguments, with ``state``, an optimizer state that
    holds a predictor's state, and optionally ``skipped``, of the structure,
    shapes and dtypes that ``fun`` returns.

  Raises:
    TypeError: at the call, if ``state`` is missing, or if ``fun`` returns an
      integer and there is no ``skipped``: integers have no NaN.
    ValueError: at the call, if ``state`` holds no predictor's state or
      ``skipped`` differs from what ``fun`` returns.

  Examples:
    >>> import jax, jax.numpy as jnp, optax, optax_predict
    >>> loss_fn = lambda x: 0.5 * jnp.sum(jnp.array([1.0, 0.1, 0.01]) * x**2)
    >>> tx = optax.chain(optax_predict.predict_gradients(), optax.sgd(1.0))
    >>> value_and_grad = optax_predict.value_and_grad(loss_fn)
    >>> @jax.jit
    ... def train_step(params, opt_state, loss):
    ...   loss, grads = value_and_grad(params, state=opt_state, skipped=loss)
    ...   updates, opt_state = tx.update(grads, opt_state, params)
    ...   return optax.apply_updates(params, updates), opt_state, loss
    >>> params, loss = jnp.ones(3), jnp.inf
    >>> opt_state = tx.init(params)
    >>> for _ in range(60):
    ...   params, opt_state, loss = train_step(params, opt_state, loss)
    >>> bool(optax_predict.get_stats(opt_state).computed_steps < 20)
    True
  """
  compute = jax.value_and_grad(fun, argnums, has_aux, holomorphic)

  def value_and_grad_fn(*args, state=None, skipped=None, **kwargs):
    if state is None:
      raise TypeError(
        "state= is missing: pass the optimizer state, as in"
        " value_and_grad(params, batch, state=opt_state)."
      )
    is_due = predictor_states.should_compute_full(state)
    shapes, gradients = jax.eval_shape(lambda: compute(*args, **kwargs))
    if skipped is None:
      skipped = jax.tree_util.tree_map_with_path(not_evaluated, shapes)
    else:
      checks.check_like("skipped", skipped, shapes)
      skipped = jax.tree.map(
        lambda x, shape: jnp.asarray(x, shape.dtype), skipped, shapes
      )
    return lax.cond(
      is_due,
      lambda: compute(*args, **kwargs),
      lambda: (skipped, trees.zeros(gradients)),
    )

  return value_and_grad_fn


def not_evaluated(path, shape):
  """What stands for a value that was not computed: NaN."""
  if not jnp.issubdtype(shape.dtype, jnp.inexact):
    raise TypeError(
      f"fun returns {shape.dtype} at {jax.tree_util.keystr(path)}, which has"
      " no NaN to say that it was not evaluated. Pass skipped= with what a"
      " skipped call shall return."
    )
  return jnp.full(shape.shape, jnp.nan, shape.dtype)
