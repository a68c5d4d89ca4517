"""Where a skipped gradient would be used."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_predict.core import checks
from optax_predict.core import trees
from optax_predict.forms import predictor_states
from optax_predict.forms import visit


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

  It traces ``tx.update``, and computes one update from zeros where parameters are
  known: they must reach the predictor as zeros. What decides by a comparison,
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
  checks.check_optimizer("tx", tx, "check_chain(tx, params)")
  checks.check_present("params", params)
  checks.check_params(params)
  tx = optax.with_extra_args_support(tx)
  gradients = trees.zeros(params if gradients is None else gradients)

  def check(params):
    opt_state = tx.init(params)
    predictor_states.predict_states(opt_state)
    if predictor_states.is_accelerated(opt_state):
      return  # No gradient is skipped.
    refuse_leaks(tx, gradients, params, opt_state, extra_args)

  jax.eval_shape(check, params)
  _refuse_what_is_not_zero(tx, gradients, params, extra_args)


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


def _refuse_what_is_not_zero(tx, zeros, params, extra_args):
  """Raises where zeros do not reach a predictor as zeros.

  A predictor takes what is not zero for a gradient that was evaluated.
  """
  leaves = jax.tree.leaves((params, extra_args))
  if any(isinstance(x, jax.core.Tracer) for x in leaves):
    return  # Nothing is known but shapes.
  received: list[jax.Array] = []

  def note(parts, updates, state, params):
    del parts, params
    received.extend(jnp.any(u != 0) for u in jax.tree.leaves(updates))
    return updates, state

  def arrive(params):
    received.clear()
    opt_state = tx.init(params)
    if not predictor_states.is_plain_chain(opt_state):
      return []  # Behind a condition, it cannot be seen from here.
    tx.update(zeros, visit.send(note, opt_state), params, **extra_args)
    return list(received)

  if any(map(bool, jax.jit(arrive)(params))):
    raise ValueError(
      "a skipped gradient would not reach predict_gradients as zeros, and be"
      " taken for one that was evaluated. Put predict_gradients first in the"
      " chain (docs/compatibility.md)."
    )


def _leaks(tx, zeros, params, opt_state, extra_args):
  state = visit.send(_hand_on_zeros, opt_state)
  paths: list[str] = []

  def outputs(gradients):
    updates, new_state = tx.update(gradients, state, params, **extra_args)
    kept = predictor_states.map_states(
      lambda _: None, _without_sums(visit.collect(new_state))
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
  if state.anchor.params is not None:
    checks.check_like("params", params, state.anchor.params)
    checks.check_like("gradients", updates, state.anchor.params)
  return trees.zeros(updates), state


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
