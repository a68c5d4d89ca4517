"""Where a skipped gradient would be used."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _opt_state
from optax_predict import _visit


def check_chain(
  tx: optax.GradientTransformation,
  params: Any,
  *,
  gradients: Any = None,
  **extra_args: Any,
) -> None:
  """Refuses an optimizer in which a skipped gradient would be used.

  Where no gradient is computed, the optimizer is given zeros, and the predictor
  puts its forecast in their place. What stands before it, or beside it where it
  sees a part of the parameters only, is left with the zeros.
  :func:`fast_forward` looks for that on its own. Call this once, when the loop
  is set up, where it is written with :func:`value_and_grad`.

  It traces ``tx.update`` once and computes nothing. What decides by a comparison,
  as ``optax.apply_if_finite`` does, is not a use. It sees what a derivative sees,
  and so nothing in a group of parameters that ``optax.sign_sgd`` trains without a
  predictor. An optimizer that makes its state anew inside ``update``
  (``optax.lookahead`` with ``reset_state``) cannot be traced so.

  Args:
    tx: the optimizer, with :func:`predict_gradients` in it.
    params: parameters.
    gradients: anything of the structure, shapes and dtypes of the gradients;
      ``None`` where they are like the parameters, as they are but for
      ``optax.lookahead``.
    **extra_args: that ``tx.update`` needs.

  Raises:
    TypeError: if ``tx`` is no optimizer.
    ValueError: if ``tx`` holds no predictor, or uses a skipped gradient; names
      what depends on it.

  Examples:
    >>> import jax.numpy as jnp, optax, optax_predict
    >>> predict = optax_predict.predict_gradients()
    >>> params = jnp.zeros(3)
    >>> optax_predict.check_chain(optax.chain(predict, optax.adam(0.1)), params)
    >>> optax_predict.check_chain(optax.chain(optax.ema(0.9), predict), params)
    Traceback (most recent call last):
    ...
    ValueError: a skipped gradient would reach state[0].ema as zeros. ...
  """
  _checks.check_optimizer("tx", tx, "check_chain(tx, params)")
  _checks.check_present("params", params)
  _checks.check_params(params)
  tx = optax.with_extra_args_support(tx)
  gradients = _base.zeros(params if gradients is None else gradients)

  def check(params):
    opt_state = tx.init(params)
    _opt_state.predict_states(opt_state)
    if _opt_state.is_accelerated(opt_state):
      return  # No gradient is skipped.
    refuse_leaks(tx, gradients, params, opt_state, extra_args)

  jax.eval_shape(check, params)


def refuse_leaks(
  tx: Any, gradients: Any, params: Any, opt_state: Any, extra_args: Any
) -> None:
  """Raises where updates or state depend on a gradient that is skipped."""
  for path in _leaks(tx, gradients, params, opt_state, extra_args):
    raise ValueError(
      f"a skipped gradient would reach {path} as zeros. Put predict_gradients"
      " first in the chain, or let a predictor stand in every group of"
      " parameters that is trained (docs/compatibility.md)."
    )


def _leaks(tx, zeros, params, opt_state, extra_args):
  state = _visit.send(_hand_on_zeros, opt_state)
  paths: list[str] = []

  def outputs(gradients):
    updates, new_state = tx.update(gradients, state, params, **extra_args)
    kept = _opt_state.map_states(
      lambda _: None, _without_sums(_visit.collect(new_state))
    )
    parts = {"the updates": updates, "state": kept}
    leaves = [
      (name + jax.tree_util.keystr(path), leaf)
      for name, part in parts.items()
      for path, leaf in jax.tree_util.tree_leaves_with_path(part)
      if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    paths[:] = [path for path, _ in leaves]
    return [leaf for _, leaf in leaves]

  # A derivative follows what is computed with a gradient, not what is decided.
  traced = jax.make_jaxpr(
    lambda tangents: jax.jvp(outputs, (zeros,), (tangents,))[1]
  )(zeros)
  uses = _dependent(traced.jaxpr)
  return [path for path, is_used in zip(paths, uses, strict=True) if is_used]


def _hand_on_zeros(parts, updates, state, params):
  """What depends on a gradient then has not got it from a predictor."""
  del parts
  if state.anchor_params is not None:
    _checks.check_like("params", params, state.anchor_params)
    _checks.check_like("gradients", updates, state.anchor_params)
  return _base.zeros(updates), state


def _without_sums(opt_state):
  """``optax.MultiSteps`` adds up what a predictor inside replaces."""

  def is_sum(x):
    return isinstance(x, optax.MultiStepsState)

  return jax.tree.map(
    lambda x: x._replace(acc_grads=None) if is_sum(x) else x,
    opt_state,
    is_leaf=is_sum,
  )


def _dependent(jaxpr):
  """For each output of a program, whether it follows from an input."""
  known = set(jaxpr.invars)

  def follows(variables):
    return any(not hasattr(v, "val") and v in known for v in variables)

  for equation in jaxpr.eqns:
    if follows(equation.invars):
      known.update(equation.outvars)
  return [follows([v]) for v in jaxpr.outvars]
