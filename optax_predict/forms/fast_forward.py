"""Predicted steps, all at once: no loss is evaluated between them."""

import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict.core import checks
from optax_predict.core import reductions
from optax_predict.core import trees
from optax_predict.engine import limits
from optax_predict.engine import predicting
from optax_predict.engine import steps
from optax_predict.engine import window
from optax_predict.engine.parts import Parts
from optax_predict.forms import check_chain
from optax_predict.forms import few_arrays
from optax_predict.forms import predictor_states
from optax_predict.forms import schedules
from optax_predict.forms import visit


def fast_forward(
  tx: optax.GradientTransformation,
  params: Any,
  opt_state: Any,
  *,
  hold_schedules: bool = False,
  **extra_args: Any,
) -> tuple[Any, Any]:
  """Takes all predicted steps of the window at once; evaluates no loss.

  Call it after the update from a true gradient. It runs the optimizer on
  predicted gradients until the next true gradient is due, in one
  ``lax.while_loop``: under ``jit`` the number of steps may differ from call to
  call without a recompilation. Outside of it, the loop is compiled once for an
  optimizer, or at every call where an extra argument is no array.

  A window that went wrong is taken back first, where the horizon says so: the
  update from the true gradient at its end is left out with it, and parameters
  are again what they were before its predicted steps. The optimizer's own state
  stays. That is done where one predictor stands in a plain ``optax.chain``, in
  ``optax.flatten`` or not, and only if the parameters were still those that the
  window had led to.

  The window ends early, where the horizon says so, before a step whose forecast
  is expected to be poor and after a step whose update was too long. A wrapper
  that does not pass a step on to the predictor (``optax.MultiSteps`` between two
  of its steps, ``optax.conditionally_transform``) ends the window, and that step
  is not taken.

  Args:
    tx: the optimizer, with :func:`predict_gradients` in it.
    params: parameters, after the update from the true gradient.
    opt_state: state of ``tx`` after that update.
    hold_schedules: whether schedules in ``tx`` stay where they are. They then count
      true gradients, as with :func:`accelerate`, and not optimizer steps.
    **extra_args: passed on to ``tx.update`` at every predicted step, for
      optimizers that need them: ``value=loss`` stands for the last known loss.

  Returns:
    ``(params, opt_state)`` after the window, of the same structure, shapes and
    dtypes. Nothing changes when a true gradient is due at once. No loss was
    evaluated at these parameters: the next call's is theirs.

  Raises:
    TypeError: if ``tx`` is no optimizer.
    ValueError: if ``opt_state`` holds no ``PredictState`` or is not of ``tx``,
      ``params`` is ``None``, or a skipped gradient would be used, as
      :func:`check_chain` says.

  Examples:
    >>> import jax, jax.numpy as jnp, optax, optax_predict
    >>> loss_fn = lambda x: 0.5 * jnp.sum(jnp.array([1.0, 0.1, 0.01]) * x**2)
    >>> tx = optax.chain(optax_predict.predict_gradients(), optax.sgd(1.0))
    >>> @jax.jit
    ... def train_step(params, opt_state):
    ...   loss, grads = jax.value_and_grad(loss_fn)(params)
    ...   updates, opt_state = tx.update(grads, opt_state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   params, opt_state = optax_predict.fast_forward(tx, params, opt_state)
    ...   return params, opt_state, loss
    >>> params = jnp.ones(3)
    >>> opt_state = tx.init(params)
    >>> for _ in range(20):
    ...   params, opt_state, loss = train_step(params, opt_state)
    >>> stats = optax_predict.get_stats(opt_state)
    >>> int(stats.computed_steps), bool(stats.predicted_steps > 60)
    (20, True)
  """
  checks.check_optimizer("tx", tx, "fast_forward(tx, params, opt_state)")
  checks.check_present("params", params)
  predictor_states.predict_states(opt_state)
  checks.check_params(params)
  predictor_states.refuse_accelerated(opt_state)
  if checks.is_all_arrays(extra_args):
    return _fast_forward_compiled(
      tx, hold_schedules, params, opt_state, extra_args
    )
  return _fast_forward(tx, hold_schedules, params, opt_state, extra_args)


def _fast_forward(tx, hold_schedules, params, opt_state, extra_args):
  tx = optax.with_extra_args_support(tx)
  placeholder = trees.zeros(params)
  predictor_states.check_made_by(tx, placeholder, params, opt_state, extra_args)
  if not _may_pass_on(opt_state):
    check_chain.refuse_leaks(tx, placeholder, params, opt_state, extra_args)
  update = functools.partial(
    _update, tx, hold_schedules, placeholder, extra_args
  )
  parts = _find_parts(update, params, opt_state)
  if parts is None:
    params, opt_state = _take_wrapped_steps(update, params, opt_state)
    # Predictors that share an optimizer all see the next true gradient.
    return params, predictor_states.map_states(window.end_window, opt_state)
  return _run_window(parts, update, params, opt_state)


# Called outside of jit, it is compiled once for an optimizer, not at every call.
_fast_forward_compiled = jax.jit(_fast_forward, static_argnums=(0, 1))


def _update(
  tx, hold_schedules, placeholder, extra_args, act, params, opt_state
):
  """The optimizer's update with ``act`` in the place of its predictors."""
  updates, new_state = tx.update(
    placeholder, visit.send(act, opt_state), params, **extra_args
  )
  new_state = visit.collect(new_state)
  if hold_schedules:
    new_state = schedules.hold_schedules(new_state, opt_state)
  return updates, new_state


def _find_parts(update, params, opt_state):
  """Those of the predictor, if the optimizer is one and what follows on it."""
  if not predictor_states.is_plain_chain(opt_state):
    return None
  found: list[Parts] = []

  def note(parts, updates, state, params):
    del params
    found.append(parts)
    return updates, state

  jax.eval_shape(functools.partial(update, note), params, opt_state)
  return found[0] if len(found) == 1 else None


def _run_window(parts, update, params, opt_state):
  """The engine's window, on the parameters as the predictor sees them."""
  (state,) = predictor_states.predict_states(opt_state)
  seen, back = few_arrays.see(params, state)
  if state.retreat is not None:
    # No cond: this is written where the start of the last window was. The true
    # gradient at its end stays in the history and in the base.
    is_due = state.retreat.is_due > 0
    seen = trees.where(is_due, state.retreat.start_params, seen)
    state = limits.end_retreat(state)

  def base_update(gradients, base_state, seen):
    def hand_on(parts, updates, state, params):
      del parts, params
      return trees.cast_like(gradients, updates), state

    updates, base_state = update(hand_on, back(seen), base_state)
    return few_arrays.see(updates, state)[0], base_state

  # The chain's state is the base's, with an empty seat for the predictor's.
  seat = state._replace(**dict.fromkeys(state._fields))
  base_state = predictor_states.replace_states([seat], opt_state)
  seen, base_state, state, _ = window.run_window(
    parts, base_update, seen, base_state, state
  )
  return back(seen), predictor_states.replace_states([state], base_state)


def _take_wrapped_steps(update, params, opt_state):
  """Where a wrapper, or another predictor, has its say about a step."""
  held = predictor_states.predict_states(opt_state)

  def predict(parts, updates, state, params):
    forecast, state = predicting.predict_gradient(
      parts, state, params, may_refuse=True
    )
    return trees.cast_like(forecast, updates), state

  def body(carry):
    params, live = carry
    params, tied = lax.optimization_barrier((params, held))
    updates, state = update(predict, params, _attach(live, tied))
    states = predictor_states.predict_states(state)
    state = _detach(
      predictor_states.replace_states(_end_if_too_long(updates, states), state)
    )
    # Choosing between two states afterwards costs a pass over both.
    return optax.tree.where(
      _has_stepped(live, state),
      (optax.apply_updates(params, updates), state),
      (params, predictor_states.map_states(window.end_window, live)),
    )

  params, live = lax.while_loop(
    lambda carry: ~predictor_states.should_compute_full(carry[1]),
    body,
    (params, _detach(opt_state)),
  )
  return params, _attach(live, held)


def _end_if_too_long(updates, states):
  """Predictors that share an optimizer each saw a part of the update."""
  longest = [s.window.longest_update for s in states]
  if None in longest:
    return states
  length = reductions.norm(updates)
  whole = jnp.linalg.norm(jnp.stack(longest))
  way = jnp.linalg.norm(jnp.stack([s.window.distance for s in states]))
  ended = [
    steps.end_if_useless(
      length, s.window._replace(longest_update=whole, distance=way)
    )
    for s in states
  ]
  return [
    s._replace(
      window=w._replace(
        longest_update=s.window.longest_update, distance=s.window.distance
      )
    )
    for s, w in zip(states, ended)
  ]


# What a predicted step only reads stays outside the loop's carry: what is not
# carried cannot be copied.
_READ_ONLY = (
  "gradient_history",
  "anchor",
  "accumulated_correction",
  "retreat",
)


def _detach(opt_state):
  return predictor_states.map_states(
    lambda s: s._replace(**dict.fromkeys(_READ_ONLY)), opt_state
  )


def _attach(live, held):
  states = iter(held)

  def attach(state):
    whole = next(states)
    return state._replace(**{name: getattr(whole, name) for name in _READ_ONLY})

  return predictor_states.map_states(attach, live)


def _may_pass_on(opt_state):
  """Whether a predictor may be passed by; such a step is not taken here."""

  def is_conditional(x):
    return isinstance(
      x, optax.ConditionallyTransformState
    ) and predictor_states.has_predictor(x)

  return any(
    map(
      is_conditional,
      jax.tree.leaves(opt_state, is_leaf=is_conditional),
    )
  )


def _has_stepped(live, new_state):
  """Whether every predictor saw the step: wrappers may hold it back."""
  states = zip(
    predictor_states.predict_states(live),
    predictor_states.predict_states(new_state),
    strict=True,
  )
  seen = [
    new.window.elapsed_steps > old.window.elapsed_steps for old, new in states
  ]
  return jnp.all(jnp.stack(seen))
