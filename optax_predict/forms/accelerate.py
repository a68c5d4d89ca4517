"""One changed line: an optimizer that needs fewer true gradients."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_predict.core import checks
from optax_predict.core import interfaces
from optax_predict.engine.predictor import build_parts
from optax_predict.engine.state import AccelerateState
from optax_predict.engine.state import get_stats
from optax_predict.engine.state import PredictorStats
from optax_predict.forms import accelerated_update
from optax_predict.forms import few_arrays
from optax_predict.forms import predictor_states


def accelerate(
  base_optimizer: optax.GradientTransformation,
  forecaster: interfaces.Forecaster | None = None,
  horizon: interfaces.Horizon | None = None,
  *,
  correction_weight: float = 0.0,
  accumulator_dtype: Any = None,
  keep_params: bool = False,
  monitor: Callable[[PredictorStats], None] | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Makes an optimizer need fewer true gradients, in any loop.

  ``update`` takes a true gradient and returns the way of many steps: the base's
  step from that gradient, and as many more on predicted gradients as the forecast
  is good for. No loss is evaluated in between. Every call is one true gradient.

  Apply the updates as they are: ``optax.apply_updates(params, updates)``. They
  are a displacement, not a gradient. What clips or scales them afterwards cuts the
  window short where the predictor does not see it; put it inside, as in
  ``accelerate(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)))``.

  A window that led to a gradient far from its forecast is taken back whole at the
  next call: parameters and the base's state return to where its predicted steps
  began. The cost is that one true gradient, which stays in the history. A gradient
  after a window that is more than twice as long as the last reaches the base shortened
  to that: see ``max_growth`` of :func:`horizons.adaptive`.

  So is a window that led to a gradient, or to a loss, that is not finite. Hand such
  gradients over: a loop that skips them keeps the parameters where they are not
  finite. Where the loss may be NaN and its gradient not, as beyond the end of a
  logarithm, pass the loss, ``update(gradients, state, params, value=loss)``.

  Learning rate schedules count true gradients: ``optax.adam(
  optax.cosine_decay_schedule(1e-2, 300))`` ends its decay at gradient 300, and
  within a window the rate stays what it was at the true gradient. So do schedules
  in ``inject_hyperparams`` and ``contrib.reduce_on_plateau``. Adam's correction of
  its bias counts every step, since every step moves its moments.

  Under minibatch noise it rests: next to nothing is predicted, and the updates are the
  base's.

  Parameters in several arrays of one dtype, four million numbers at most, are one
  vector in the state, which compiles far faster and costs the host far less. So are
  the trees of the base's state, such as Adam's moments, if the base's update treats
  every element of every array alike. One that does not, such as a clipping by the
  global norm or a mask, has its own state and sees the arrays as they are. More
  numbers keep their arrays and how they are sharded. With such vectors,
  ``optax.tree.map_params`` does not take further trees.

  Memory, in copies of the parameters: 13 for the history and where the window
  began, or 8 with ``accumulator_dtype=jnp.bfloat16``, and the base's own state
  twice. ``horizons.adaptive(max_error=None)`` never takes a window back, and
  spares one copy and the base's second state.

  Args:
    base_optimizer: any optax optimizer but those that search along a line.
    forecaster: how gradients are predicted; default ``forecasters.secant()``.
    horizon: how many steps are predicted; default ``horizons.adaptive()``.
    correction_weight: as for :func:`predict_gradients`.
    accumulator_dtype: floating point dtype of the bulk of the history; default
      each parameter's own.
    keep_params: whether to keep a copy of the parameters, for loops that call
      ``update(gradients, state)`` without them. The loop must then apply every
      update, and change the parameters in no other way.
    monitor: called on the host after every true gradient with a
      :class:`PredictorStats`, for loops that drop the optimizer's state; ``None``
      for no call.

  Returns:
    An ``optax.GradientTransformationExtraArgs`` whose state is an
    ``AccelerateState``; :func:`get_stats` and :func:`reset` take it. Extra
    arguments of ``update`` are passed on to the base, at predicted steps too:
    ``value=loss`` stands for the last known loss there.

  Raises:
    TypeError: when built, if ``base_optimizer`` is no optimizer, or an option is of
      another type; at ``init``, for parameters that are not floating point or
      complex.
    ValueError: when built, if an option is outside its range; at ``init``, if the
      base predicts already or searches along a line; at ``update``, if ``params``
      is missing without ``keep_params``, or gradients, parameters and state do not
      belong together.

  Examples:
    >>> import jax, jax.numpy as jnp, optax, optax_predict
    >>> loss_fn = lambda x: 0.5 * jnp.sum(jnp.array([1.0, 0.1, 0.01]) * x**2)
    >>> tx = optax_predict.accelerate(optax.adam(1e-2))
    >>> @jax.jit
    ... def train_step(params, opt_state):
    ...   loss, grads = jax.value_and_grad(loss_fn)(params)
    ...   updates, opt_state = tx.update(grads, opt_state, params)
    ...   return optax.apply_updates(params, updates), opt_state, loss
    >>> params = jnp.ones(3)
    >>> opt_state = tx.init(params)
    >>> for _ in range(30):
    ...   params, opt_state, loss = train_step(params, opt_state)
    >>> stats = optax_predict.get_stats(opt_state)
    >>> int(stats.computed_steps), bool(stats.predicted_steps > 60)
    (30, True)
  """
  checks.check_optimizer(
    "base_optimizer", base_optimizer, "accelerate(optax.adam(1e-3))"
  )
  if monitor is not None:
    checks.check_callable("monitor", monitor, "accelerate(base, monitor=print)")
  parts = build_parts(forecaster, horizon, correction_weight, accumulator_dtype)
  base = optax.with_extra_args_support(base_optimizer)
  step = functools.partial(accelerated_update.update, parts, base)
  # Called outside of jit, it is compiled once, not at every call.
  compiled_step = jax.jit(step)

  def init(params):
    checks.check_params(params)
    base_state = base.init(params)
    _check_base(base_state)
    base_state = few_arrays.merge_base_state(parts, base, base_state, params)
    return AccelerateState(
      predictor=few_arrays.init_predictor(parts, params),
      base_optimizer_state=base_state,
      # Arrays of their own: a donated buffer may stand in one place only.
      start_base_state=_copy(base_state) if parts.may_retreat else None,
      params=_copy(params) if keep_params else None,
    )

  def update(updates, state, params=None, **extra_args):
    _check_accelerate_state(state)
    params = state.params if params is None else params
    if params is None:
      raise ValueError(
        "params is missing: accelerate takes predicted steps on the parameters."
        " Call update(gradients, state, params), or build it with"
        " accelerate(base, keep_params=True) where the loop is not yours."
      )
    params = _select_trained(updates, params)
    checks.check_params(params)
    checks.check_gradients(updates)
    checks.check_like("gradients", updates, params)
    is_plain = checks.is_all_arrays((updates, state, params, extra_args))
    updates, state = (compiled_step if is_plain else step)(
      updates, state, params, extra_args
    )
    if monitor is not None:
      jax.debug.callback(monitor, get_stats(state))
    return updates, state

  return optax.GradientTransformationExtraArgs(init, update)


def get_base_state(
  base_optimizer: optax.GradientTransformation, opt_state: Any, params: Any
) -> Any:
  """The state of the optimizer that was accelerated, to go on without prediction.

  Args:
    base_optimizer: what was given to :func:`accelerate`.
    opt_state: the accelerated optimizer's ``AccelerateState``.
    params: parameters, or their shapes.

  Returns:
    The state as ``base_optimizer.init`` makes it: its trees are trees again where
    :func:`accelerate` keeps small arrays as one vector.

  Raises:
    ValueError: if ``opt_state`` is no ``AccelerateState``.

  Examples:
    >>> import jax.numpy as jnp, optax, optax_predict
    >>> adam, params = optax.adam(1e-3), jnp.ones(3)
    >>> opt_state = optax_predict.accelerate(adam).init(params)
    >>> opt_state = optax_predict.get_base_state(adam, opt_state, params)
    >>> updates, opt_state = adam.update(params, opt_state, params)
  """
  _check_accelerate_state(opt_state)
  base_state = opt_state.base_optimizer_state
  like = few_arrays.shape_base_state(base_optimizer, params)
  if like is None:
    return base_state
  return few_arrays.split_base_state(like, base_state, params)


def _check_accelerate_state(state):
  if not isinstance(state, AccelerateState):
    raise ValueError(
      f"state: expected an AccelerateState, got {type(state).__name__}. Pass the"
      " state that this optimizer's init or its last update returned."
    )


def _check_base(base_state):
  """Refuses a base that predicts already, or that evaluates the loss itself."""
  if predictor_states.has_predictor(base_state):
    raise ValueError(
      "base_optimizer predicts gradients already: accelerate takes the optimizer"
      " alone. Leave out the accelerate or predict_gradients inside."
    )
  searches = (
    optax.ScaleByBacktrackingLinesearchState,
    optax.ScaleByZoomLinesearchState,
  )
  leaves = jax.tree.leaves(
    base_state, is_leaf=lambda x: isinstance(x, searches)
  )
  if any(isinstance(x, searches) for x in leaves):
    raise ValueError(
      "base_optimizer searches along a line, which evaluates the loss at every"
      " step: predicted gradients save nothing. Use optax.adam, optax.sgd, or"
      " another optimizer without, or optax.lbfgs(linesearch=None)."
    )


def _select_trained(gradients, params):
  """Without the leaves that have no gradient: an Equinox module holds functions."""
  if gradients is None:
    return params
  try:
    return jax.tree.map(
      lambda g, p: None if g is None else p,
      gradients,
      params,
      is_leaf=lambda x: x is None,
    )
  except ValueError:
    return params  # They do not belong together; what differs is named later.


def _copy(tree):
  return jax.tree.map(jnp.copy, tree)
