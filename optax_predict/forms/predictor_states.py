"""What can be asked of any optimizer state that holds a predictor."""

from typing import Any

import jax
import jax.numpy as jnp

from optax_predict.engine import state as predict_state


def should_compute_full(opt_state: Any) -> jax.Array:
  """Whether a true gradient is due.

  Args:
    opt_state: an optimizer state that holds the state of one or more predictors.

  Returns:
    ``bool[]``, true when at least one of them asks for a true gradient.

  Raises:
    ValueError: if ``opt_state`` holds none.
  """
  due = [
    predict_state.should_compute_full(s) for s in predict_states(opt_state)
  ]
  return jnp.any(jnp.stack(due))


def get_stats(opt_state: Any) -> predict_state.PredictorStats:
  """Counts and errors of the predictions so far.

  Args:
    opt_state: an optimizer state that holds the state of one or more predictors.

  Returns:
    :class:`PredictorStats`. Of several predictors (``optax.partition``), the
    one with the most true gradients.

  Raises:
    ValueError: if ``opt_state`` holds none.
  """
  stats = [predict_state.get_stats(s) for s in predict_states(opt_state)]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *stats)
  # Each of many fits for itself, where the state is of many.
  most = jnp.argmax(stacked.computed_steps, axis=0, keepdims=True)
  return jax.tree.map(
    lambda x: jnp.take_along_axis(x, most, axis=0)[0], stacked
  )


def reset(opt_state: Any) -> Any:
  """Forgets all gradients and counts; leaves the optimizer's own state alone.

  Use it when the problem changes: another data set, a loss term switched on.

  Args:
    opt_state: an optimizer state that holds the state of one or more predictors.

  Returns:
    The optimizer state, each predictor's in it as after ``init``.

  Raises:
    ValueError: if ``opt_state`` holds none.
  """
  predict_states(opt_state)
  return map_states(predict_state.reset, opt_state)


def is_state(x):
  """Whether this is the state of one predictor."""
  return isinstance(
    x, (predict_state.PredictState, predict_state.AccelerateState)
  )


def predict_states(opt_state):
  """All predictors' states in an optimizer state, found by their class."""
  leaves = jax.tree.leaves(opt_state, is_leaf=is_state)
  found = [x for x in leaves if is_state(x)]
  if not found:
    raise ValueError(
      "the optimizer state holds no predictor's state. Pass the state that init or"
      " update of optax_predict.accelerate(...), or of"
      " optax.chain(optax_predict.predict_gradients(), ...), returned;"
      f" got {type(opt_state).__name__}."
    )
  return found


def is_accelerated(opt_state):
  """Whether an optimizer in it takes its predicted steps itself."""

  def is_ours(x):
    return isinstance(x, predict_state.AccelerateState)

  return any(map(is_ours, jax.tree.leaves(opt_state, is_leaf=is_ours)))


def refuse_accelerated(opt_state):
  """Raises a ValueError where predicted steps would be taken twice."""
  if is_accelerated(opt_state):
    raise ValueError(
      "the optimizer is accelerated: its update has taken all predicted steps."
      " Leave fast_forward out."
    )


def check_made_by(tx, updates, params, opt_state, extra_args):
  """Raises a ValueError for a state that is not of ``tx`` and does not work.

  One that is built otherwise may do: of a schedule, where the rate is a number now.
  """
  try:
    expected = jax.eval_shape(tx.init, params)
  except jax.errors.JAXTypeError:
    return  # It reads numbers, which are not known here.
  got: Any = jax.tree.structure(opt_state, is_leaf=is_state)
  if got == jax.tree.structure(expected, is_leaf=is_state):
    return
  try:
    jax.eval_shape(lambda: tx.update(updates, opt_state, params, **extra_args))
  except (AttributeError, TypeError, ValueError) as error:
    raise ValueError(
      "opt_state is not a state of tx, or was made for other parameters. Pass"
      " the optimizer that predict_gradients() stands in, and the state that"
      " its init or its last update returned."
    ) from error


def map_states(fn, opt_state, *rest):
  """Applies ``fn`` to each predictor's state and keeps all else."""
  return jax.tree.map(
    lambda x, *others: fn(x, *others) if is_state(x) else x,
    opt_state,
    *rest,
    is_leaf=is_state,
  )


def replace_states(states, opt_state):
  """Puts the predictors' states, in their order, into an optimizer state."""
  found = iter(states)
  return map_states(lambda _: next(found), opt_state)


def is_plain_chain(opt_state):
  """Whether no wrapper stands between the optimizer and its predictors."""
  if type(opt_state) is tuple:
    return all(is_plain_chain(s) for s in opt_state if has_predictor(s))
  return isinstance(opt_state, predict_state.PredictState)


def has_predictor(opt_state):
  """Whether a predictor's state is in it."""
  return any(
    map(
      is_state,
      jax.tree.leaves(opt_state, is_leaf=is_state),
    )
  )
