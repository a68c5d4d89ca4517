"""Predicted steps, all at once: no loss is evaluated between them."""

from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict import _base
from optax_predict import _checks
from optax_predict import _leaks
from optax_predict import _opt_state
from optax_predict import _retreat
from optax_predict import _sums

# Steps that one pass over the parameters takes, where nothing can stop them. With
# more of them arithmetic, not memory, is what takes the time.
STEPS_AT_ONCE = 4
# A window is over where an update is shorter than this share of the way that the
# window has led.
_LEAST_UPDATE = 1e-4


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
  _opt_state.predict_states(opt_state)
  tx = optax.with_extra_args_support(tx)
  placeholder = _base.zeros(params)
  _opt_state.check_made_by(tx, placeholder, params, opt_state, extra_args)
  if not _may_pass_on(opt_state):
    _leaks.refuse_leaks(tx, placeholder, params, opt_state, extra_args)
  may_retreat = _retreat.is_possible(params, opt_state)
  if may_retreat:
    params, opt_state = _retreat.taken_back(params, opt_state)
  history = [read_only(s) for s in _opt_state.predict_states(opt_state)]

  def tied(params):
    # Tied to the carry, or XLA would widen a whole bfloat16 history once before
    # the loop and keep it.
    return lax.optimization_barrier((params, history))

  def update(params, held, live, flags):
    updates, state = tx.update(
      placeholder, attach(live, held), params, **flags, **extra_args
    )
    return updates, detach(state)

  def look_ahead(params, live):
    """Ends the window before a poor step."""

    def seen():
      # Only the predictors' states are used: XLA drops the rest of the chain.
      flags = dict(is_predicted_step=True, is_look_ahead=True)
      place, held = tied(params)
      return _opt_state.predict_states(update(place, held, live, flags)[1])

    states = lax.cond(
      _opt_state.should_compute_full(live),
      lambda: _opt_state.predict_states(live),
      seen,
    )
    return _opt_state.replace_states(states, live)

  def needs_look_ahead(params, live):
    """Of each predictor that steps and look-aheads reach unconditionally."""
    if not _opt_state.is_plain_chain(live):
      return []
    reached: list[bool] = []
    jax.eval_shape(lambda: update(params, history, live, {"reached": reached}))
    return reached

  def steps(count):
    def body(carry):
      params, live = carry
      params, held = tied(params)
      flags = dict(is_predicted_step=True, is_look_ahead=False)
      for _ in range(count):
        updates, live = update(params, held, live, flags)
        live = _stop_after(updates, live)
        params = optax.apply_updates(params, updates)
      return params, live

    return body

  def looking_body(carry):
    params, live = steps(1)(carry)
    return params, look_ahead(params, live)

  def wrapped_body(carry):
    params, live = carry
    params, held = tied(params)
    flags = dict(is_predicted_step=True)
    updates, new_state = update(params, held, live, flags)
    new_state = _stop_after(updates, new_state)
    # Choosing between two states afterwards costs a pass over both.
    return optax.tree.where(
      _has_stepped(live, new_state),
      (optax.apply_updates(params, updates), new_state),
      (params, _end_window(live)),
    )

  live = detach(opt_state)
  reached = needs_look_ahead(params, live)
  is_plain = len(reached) == len(history)
  if is_plain and any(reached):
    live = look_ahead(params, live)
  opens = ~_opt_state.should_compute_full(live)
  if may_retreat:
    history = [_retreat.with_start(opens, params, history[0])]
  if is_plain and not any(reached):
    params, live = lax.while_loop(
      lambda carry: _opt_state.remaining_steps(carry[1]) >= STEPS_AT_ONCE,
      steps(STEPS_AT_ONCE),
      (params, live),
    )
  body = wrapped_body
  if is_plain:
    body = looking_body if any(reached) else steps(1)
  params, live = lax.while_loop(
    lambda carry: ~_opt_state.should_compute_full(carry[1]),
    body,
    (params, live),
  )
  # Predictors that share an optimizer all see the next true gradient.
  opt_state = attach(_end_window(live), history)
  if may_retreat:
    opt_state = _retreat.with_length(opens, params, opt_state)
  return params, opt_state


# What a predicted step only reads stays outside the loop's carry: what is not
# carried cannot be copied.
def read_only(state):
  return dict(
    gradient_history=state.gradient_history,
    anchor_params=state.anchor_params,
    accumulated_correction=state.accumulated_correction,
    start_params=state.start_params,
  )


def detach(opt_state):
  return _opt_state.map_states(
    lambda s: s._replace(**dict.fromkeys(read_only(s))), opt_state
  )


def attach(live, history):
  parts = iter(history)
  return _opt_state.map_states(lambda s: s._replace(**next(parts)), live)


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


def _stop_after(updates, new_state):
  """Ends the window when the update was longer than a horizon allows."""
  states = _opt_state.predict_states(new_state)
  limits = [s.longest_update for s in states]
  if None in limits:
    return new_state
  # Predictors that share an optimizer each saw a part of the update.
  norm = _sums.norm(updates)
  is_too_long = norm > jnp.linalg.norm(jnp.stack(limits))
  distances = [s.distance for s in states if s.distance is not None]
  way = jnp.linalg.norm(jnp.stack(distances)) if distances else 1.0
  # Nothing is gained any more.
  is_over = (norm <= _LEAST_UPDATE * way) | (way <= 0)
  return _opt_state.map_states(
    lambda s: s._replace(
      remaining_steps=jnp.where(is_too_long | is_over, 0, s.remaining_steps),
      window_stopped=jnp.where(is_too_long, 1, s.window_stopped),
    ),
    new_state,
  )


def _end_window(live):
  return _opt_state.map_states(
    lambda s: s._replace(remaining_steps=jnp.minimum(s.remaining_steps, 0)),
    live,
  )
