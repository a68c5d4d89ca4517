"""Predicted steps, all at once: no loss is evaluated between them."""

import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _leaks
from optax_predict import _opt_state
from optax_predict import _parts
from optax_predict import _predicting
from optax_predict import _retreat
from optax_predict import _visit
from optax_predict import _window


def fast_forward(
  tx: optax.GradientTransformation,
  params: Any,
  opt_state: Any,
  **extra_args: Any,
) -> tuple[Any, Any]:
  """Takes all predicted steps of the window at once; evaluates no loss.

  Call it after the update from a true gradient. It runs the optimizer on
  predicted gradients until the next true gradient is due, in one
  ``lax.while_loop``: under ``jit`` the number of steps may differ from call to
  call without a recompilation. Outside of it, the loop is compiled at every call.

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
  _checks.check_optimizer("tx", tx, "fast_forward(tx, params, opt_state)")
  _checks.check_present("params", params)
  _checks.check_params(params)
  _opt_state.predict_states(opt_state)
  _opt_state.refuse_accelerated(opt_state)
  if _checks.is_all_arrays(extra_args):
    return _fast_forward_compiled(tx, params, opt_state, extra_args)
  return _fast_forward(tx, params, opt_state, extra_args)


def _fast_forward(tx, params, opt_state, extra_args):
  tx = optax.with_extra_args_support(tx)
  placeholder = _base.zeros(params)
  _opt_state.check_made_by(tx, placeholder, params, opt_state, extra_args)
  if not _may_pass_on(opt_state):
    _leaks.refuse_leaks(tx, placeholder, params, opt_state, extra_args)
  may_retreat = _retreat.is_possible(params, opt_state)
  if may_retreat:
    params, opt_state = _retreat.taken_back(params, opt_state)
  begin, take_steps = _steps_of(tx, placeholder, params, opt_state, extra_args)
  opt_state = begin(params, opt_state)
  opens = ~_opt_state.should_compute_full(opt_state)
  if may_retreat:
    opt_state = _retreat.with_start(opens, params, opt_state)
  params, opt_state = take_steps(params, opt_state)
  # Predictors that share an optimizer all see the next true gradient.
  opt_state = _end_window(opt_state)
  if may_retreat:
    opt_state = _retreat.with_length(opens, params, opt_state)
  return params, opt_state


# Called outside of jit, it is compiled once for an optimizer, not at every call.
_fast_forward_compiled = jax.jit(_fast_forward, static_argnums=0)


def _steps_of(tx, placeholder, params, opt_state, extra_args):
  """How windows are begun, and their steps taken, by this optimizer."""
  update = functools.partial(_update, tx, placeholder, extra_args)
  if _opt_state.is_plain_chain(opt_state):
    found: list[_parts.Parts] = []

    def note(parts, updates, state, params):
      del params
      found.append(parts)
      return updates, state

    jax.eval_shape(functools.partial(update, note), params, opt_state)
    if len(found) == 1:
      return _plain_steps(update, found[0])
  return lambda params, opt_state: opt_state, functools.partial(
    _wrapped_steps, update
  )


def _update(tx, placeholder, extra_args, act, params, opt_state):
  """The optimizer's update with ``act`` in the place of its predictors."""
  updates, opt_state = tx.update(
    placeholder, _visit.send(act, opt_state), params, **extra_args
  )
  return updates, _visit.collect(opt_state)


def _plain_steps(update, parts):
  """Where the optimizer is one predictor and what follows on it."""

  def begin(params, opt_state):
    (state,) = _opt_state.predict_states(opt_state)
    state = _window.open_window(parts, state, params)
    return _opt_state.replace_states([state], opt_state)

  def take_steps(params, opt_state):
    (state,) = _opt_state.predict_states(opt_state)

    def base_update(gradients, base_state, params):
      def hand_on(parts, updates, state, params):
        del parts, params
        return _base.cast_like(gradients, updates), state

      return update(hand_on, params, base_state)

    # The chain's state is the base's, with an empty seat for the predictor's.
    seat = state._replace(**dict.fromkeys(state._fields))
    base_state = _opt_state.replace_states([seat], opt_state)
    params, base_state, state = _window.take_steps(
      parts, base_update, params, base_state, state
    )
    return params, _opt_state.replace_states([state], base_state)

  return begin, take_steps


def _wrapped_steps(update, params, opt_state):
  """Where a wrapper, or another predictor, has its say about a step."""
  held = [_window.read_only(s) for s in _opt_state.predict_states(opt_state)]

  def predict(parts, updates, state, params):
    forecast, state = _predicting.predict_gradient(
      parts, state, params, may_refuse=True
    )
    return _base.cast_like(forecast, updates), state

  def body(carry):
    params, live = carry
    params, tied = lax.optimization_barrier((params, held))
    updates, state = update(predict, params, _attach(live, tied))
    states = _window.end_if_too_long(updates, _opt_state.predict_states(state))
    state = _detach(_opt_state.replace_states(states, state))
    # Choosing between two states afterwards costs a pass over both.
    return optax.tree.where(
      _has_stepped(live, state),
      (optax.apply_updates(params, updates), state),
      (params, _end_window(live)),
    )

  params, live = lax.while_loop(
    lambda carry: ~_opt_state.should_compute_full(carry[1]),
    body,
    (params, _detach(opt_state)),
  )
  return params, _attach(live, held)


def _detach(opt_state):
  return _opt_state.map_states(_window.detach, opt_state)


def _attach(live, held):
  parts = iter(held)
  return _opt_state.map_states(
    lambda s: _window.attach(s, next(parts)), live
  )


def _may_pass_on(opt_state):
  """Whether a predictor may be passed by; such a step is not taken here."""

  def is_conditional(x):
    return isinstance(
      x, optax.ConditionallyTransformState
    ) and _opt_state.has_predictor(x)

  return any(
    map(
      is_conditional,
      jax.tree.leaves(opt_state, is_leaf=is_conditional),
    )
  )


def _has_stepped(live, new_state):
  """Whether every predictor saw the step: wrappers may hold it back."""
  states = zip(
    _opt_state.predict_states(live),
    _opt_state.predict_states(new_state),
    strict=True,
  )
  seen = [new.elapsed_steps > old.elapsed_steps for old, new in states]
  return jnp.all(jnp.stack(seen))


def _end_window(live):
  return _opt_state.map_states(
    lambda s: s._replace(remaining_steps=jnp.minimum(s.remaining_steps, 0)),
    live,
  )
