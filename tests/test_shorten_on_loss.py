"""Windows that shorten where the loss rises, worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict


def error(loss, steps=8, stopped=0):
  return optax_predict.ForecastError(
    relative_error=jnp.float32(0.01),
    correlation=jnp.float32(1.0),
    history_size=jnp.int32(2),
    window_steps=jnp.int32(steps),
    window_stopped=jnp.int32(stopped),
    loss=None if loss is None else jnp.float32(loss),
  )


def lengths(horizon, errors):
  state, out = horizon.init(), []
  for e in errors:
    steps, state = horizon.update(e, state)
    assert steps.dtype == jnp.int32
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))
    out.append(int(steps))
  return out


def shortened(then=None, **options):
  if then is None:
    then = optax_predict.horizons.fixed(8, min_correlation=-1.0)
  return optax_predict.horizons.shorten_on_loss(then, **options)


def test_halves_at_every_rise_and_doubles_back():
  losses = [5.0, 4.0, 4.5, 4.7, 4.8, 4.9, 4.9, 3.0, 2.0, 1.0, 0.5]
  found = lengths(shortened(), map(error, losses))
  assert found == [8, 8, 4, 2, 1, 0, 1, 2, 4, 8, 8]


def test_a_rise_without_a_window_is_not_held_against_it():
  errors = [error(1.0), error(2.0), error(3.0, steps=0), error(3.0, steps=0)]
  assert lengths(shortened(), errors) == [8, 4, 4, 8]


def test_tolerance_is_relative_to_the_last_loss():
  losses = [-2.0, -1.9, -1.7, 10.0, 10.9, 12.1]
  found = lengths(shortened(tolerance=0.1), map(error, losses))
  assert found == [8, 8, 4, 2, 4, 2]


def test_a_loss_that_is_not_finite_has_risen_and_is_not_compared_with():
  losses = [3.0, np.nan, np.inf, 2.0, 1.0]
  assert lengths(shortened(), map(error, losses)) == [8, 4, 2, 4, 8]


def test_the_wrapped_horizon_does_not_grow_after_a_rise():
  then = optax_predict.horizons.adaptive()
  horizon = shortened(then, factor=0.9)
  losses = [3.0, 2.0, 1.0, 1.5, 1.0]
  assert lengths(horizon, map(error, losses)) == [7, 63, 511, 459, 4095]
  assert horizon.max_growth == then.max_growth


def test_the_loss_comes_with_the_update():
  tx = optax.chain(
    optax_predict.predict_gradients(
      optax_predict.forecasters.momentum(), shortened()
    ),
    optax.sgd(0.1),
  )
  params = jnp.ones(3)

  @jax.jit
  def step(params, state, loss):
    updates, state = tx.update(params, state, params, value=loss)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state, value=loss)

  state, horizons = tx.init(params), []
  for loss in (9.0, 8.0, 8.5, 8.2):
    params, state = step(params, state, loss)
    horizons.append(int(optax_predict.get_stats(state).horizon))
  assert horizons == [0, 8, 4, 8]
  state = optax_predict.reset(state)
  assert not any(np.any(x) for x in jax.tree.leaves(state))


def test_a_missing_loss_is_named():
  tx = optax_predict.predict_gradients(horizon=shortened())
  params = jnp.ones(3)
  with pytest.raises(ValueError, match="needs the loss.*value=loss"):
    tx.update(params, tx.init(params), params)


def test_a_loss_of_many_numbers_is_refused():
  tx = optax_predict.predict_gradients(horizon=shortened())
  params = jnp.ones(3)
  with pytest.raises(ValueError, match=r"scalar, got value of shape \(3,\)"):
    tx.update(params, tx.init(params), params, value=params)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"factor": 1.0}, r"factor must be in \(0, 1\), got 1.0"),
    ({"tolerance": -0.1}, r"tolerance must be in \[0, inf\], got -0.1"),
  ],
)
def test_options_are_checked(options, message):
  with pytest.raises(ValueError, match=message):
    shortened(**options)


def test_only_a_horizon_is_wrapped():
  with pytest.raises(TypeError, match="then must be a Horizon, got 4"):
    shortened(4)
