"""Gradient prediction as an optax gradient transformation."""

from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from optax_predict.core import interfaces
from optax_predict.core import trees
from optax_predict.engine import initial
from optax_predict.engine import predicting
from optax_predict.engine import predictor
from optax_predict.engine import recording
from optax_predict.engine.state import should_compute_full
from optax_predict.forms import visit


def predict_gradients(
  forecaster: interfaces.Forecaster | None = None,
  horizon: interfaces.Horizon | None = None,
  *,
  correction_weight: float = 0.0,
  accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
  """Predicts gradients and asks for a true one only when it is due.

  Put it first in the chain. A gradient that is given is recorded and passed on.
  Zeros, where no true gradient is due, stand for one that was not evaluated: a
  forecast is put in their place. One ``lax.cond`` chooses. Alone in a chain it
  changes nothing: what evaluates the loss less often is :func:`accelerate`, which
  is this and the steps between, or :func:`fast_forward` or
  :func:`value_and_grad` in a loop of your own.

  The defaults are one setting for all problems. To be careful, lower the learning
  rate; to predict less, ``rtol`` of :func:`horizons.adaptive`; to save memory, set
  ``accumulator_dtype=jnp.bfloat16`` or fewer ``directions`` of
  :func:`forecasters.secant`; where parameters are many small arrays on one device,
  to compile and run faster, put the whole chain in ``optax.flatten``.

  A true gradient passes through as it is, but for one: where a window of
  predicted steps has led to a gradient more than ``max_growth`` times the last,
  it is shortened to that, and so are those after it until one is not longer.

  A true gradient that is not finite passes through, for
  ``optax.apply_if_finite``, and is left out of the history; at the end of a window
  that :func:`fast_forward` is to take back, zeros stand for it, since the base would
  keep it in its own state (and an ``apply_if_finite`` after the predictor does not
  count it). A forecast that is
  not finite is never emitted. Gradients of another floating point dtype than the
  parameters' keep theirs. Parameters must be floating point or complex; conjugate
  the gradients of complex ones before, as for any optimizer: JAX's own point
  elsewhere than uphill. Norms are sums of squares: gradients or moves shorter than
  about 1e-19 in float32 are taken for none. Scale such a loss up.

  Args:
    forecaster: how gradients are predicted; default ``forecasters.secant()``.
    horizon: how many steps are predicted; default ``horizons.adaptive()``.
    correction_weight: weight of the accumulated correction, true gradient minus
      forecast, that is added to a true gradient after predicted steps. 0, the
      default, keeps none.
    accumulator_dtype: floating point dtype of the bulk of the history; default
      each parameter's own.

  Returns:
    An ``optax.GradientTransformationExtraArgs`` whose state is a
    :class:`PredictState`. Its ``update`` needs ``params`` unless neither
    forecaster nor horizon looks at them.

  Raises:
    TypeError: when built, if ``forecaster`` or ``horizon`` is something else; at
      ``init``, for parameters that are not floating point or complex; at
      ``update``, for such gradients.
    ValueError: when built, if ``correction_weight`` is not finite or
      ``accumulator_dtype`` is no floating point dtype; at ``update``, if
      ``params`` is missing, gradients differ from the parameters in structure
      or shape, or another configuration made the state.

  Examples:
    >>> import jax, jax.numpy as jnp, optax, optax_predict
    >>> tx = optax.chain(optax_predict.predict_gradients(), optax.adam(0.1))
    >>> params = jnp.array([1.0, -2.0])
    >>> opt_state = tx.init(params)
    >>> grads = jax.grad(lambda x: jnp.sum(x**2))(params)
    >>> updates, opt_state = tx.update(grads, opt_state, params)
    >>> params = optax.apply_updates(params, updates)
    >>> params, opt_state = optax_predict.fast_forward(tx, params, opt_state)
    >>> print(optax_predict.get_stats(opt_state).computed_steps)
    1
  """
  parts = predictor.build_parts(
    forecaster, horizon, correction_weight, accumulator_dtype
  )

  def init(params):
    return initial.init_state(parts, params)

  def actual(gradients, state, params, value):
    return recording.receive_gradient(
      parts, gradients, state, params, value=value
    )

  def predicted(gradients, state, params, value):
    del value
    forecast, state = predicting.predict_gradient(parts, state, params)
    return trees.cast_like(forecast, gradients), state

  def update(updates, state, params=None, *, value=None, **extra_args):
    del extra_args
    if isinstance(state, visit.Visit):
      return state(parts, updates, params)
    if params is not None:
      initial.check_state(parts, state, params)
    return lax.cond(
      should_compute_full(state) | _is_given(updates),
      actual,
      predicted,
      updates,
      state,
      params,
      value,
    )

  return optax.GradientTransformationExtraArgs(init, update)


def _is_given(gradients):
  """Whether a gradient was computed: what stands for one that was not is zeros."""
  found = [jnp.any(g != 0) for g in jax.tree.leaves(gradients)]
  return jnp.any(jnp.stack(found)) if found else jnp.zeros([], bool)
