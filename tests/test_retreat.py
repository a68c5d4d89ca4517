"""Windows that went wrong are taken back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

RATE = 0.1
HORIZON = optax_predict.horizons.fixed(2, -1.0)._replace(max_error=1.5)


def optimizer(horizon=HORIZON, wrap=lambda tx: tx, base=None):
  """Predicts the last gradient, twice, whatever it was worth."""
  predict = optax_predict.predict_gradients(
    optax_predict.forecasters.momentum(0.0), horizon
  )
  return wrap(optax.chain(predict, base or optax.sgd(RATE)))


def run(tx, gradients, change=lambda x: x):
  """Parameters after every call, and the last state."""

  @jax.jit
  def step(x, state, gradient):
    updates, state = tx.update(jnp.full(3, gradient), state, x)
    return optax_predict.fast_forward(
      tx, optax.apply_updates(x, updates), state
    )

  x = jnp.array([1.0, 2.0, 3.0])
  state, path = tx.init(x), []
  for gradient in gradients:
    x, state = step(x, state, gradient)
    path.append(np.asarray(x))
    x = change(x)
  return np.array(path), state


def expected(moves):
  return np.array([1.0, 2.0, 3.0]) - RATE * np.cumsum(moves)[:, None]


# A true gradient of 1 follows on forecasts of 1: with it each call moves by 1
# and, from the second on, by two predicted steps of 1.
@pytest.mark.parametrize(
  "last, moves",
  [
    # Off by 0.5 / sqrt(1.5) of a gradient: the window stays.
    (1.5, [1, 3, 3, 4.5]),
    # Off by 6 / sqrt(5): two steps are taken back, and no others follow.
    (-5.0, [1, 3, 3, -2]),
    (-0.2, [1, 3, 3, -2]),
  ],
)
def test_a_window_with_a_large_error_is_taken_back(last, moves):
  path, state = run(optimizer(), [1.0, 1.0, 1.0, last])
  np.testing.assert_allclose(path, expected(moves), rtol=1e-5)
  assert int(state[0].retreat.is_due) == 0


def test_it_goes_on_from_there():
  """The next true gradient is taken where the window began, and used."""
  path, state = run(optimizer(), [1.0, 1.0, 1.0, -5.0, 1.0, 1.0])
  np.testing.assert_allclose(path, expected([1, 3, 3, -2, 3, 3]), rtol=1e-5)
  stats = optax_predict.get_stats(state)
  assert int(stats.computed_steps) == 6


def test_the_gradient_that_told_so_is_kept():
  _, state = run(optimizer(), [1.0, 1.0, 1.0, -5.0])
  newest = optax_predict.forecasters.momentum(0.0).predict(
    state[0].gradient_history,
    optax_predict.Motion(jnp.int32(1)),
  )
  np.testing.assert_allclose(newest.gradients, np.full(3, -5.0))


def test_each_of_many_runs_for_itself():
  tx = optimizer()

  def one(last):
    x = jnp.zeros(3)
    state = tx.init(x)
    for gradient in (1.0, 1.0, last):
      updates, state = tx.update(jnp.full(3, gradient), state, x)
      x = optax.apply_updates(x, updates)
      x, state = optax_predict.fast_forward(tx, x, state)
    return x[0]

  found = jax.vmap(one)(jnp.array([-5.0, 1.0]))
  np.testing.assert_allclose(found, [-RATE * 2, -RATE * 7], rtol=1e-5)


def test_what_a_caller_has_put_there_is_left():
  """Parameters from a checkpoint, a projection or an average stay."""
  path, _ = run(optimizer(), [1.0, 1.0, 1.0, -5.0], change=lambda x: x + 7)
  moved = np.diff(path, axis=0)[-1] - 7
  np.testing.assert_allclose(moved, -RATE * 3 * np.full(3, -5.0), rtol=1e-5)


@pytest.mark.parametrize("change, is_ours", [(1e-4, True), (1e-2, False)])
def test_how_far_parameters_may_be_from_where_they_were_left(change, is_ours):
  """Along the window: a program may round in another way, no more."""
  path, _ = run(
    optimizer(), [1.0, 1.0, -5.0], change=lambda x: x + change * 2 * RATE
  )
  moved = np.diff(path, axis=0)[-1][0] / RATE
  np.testing.assert_allclose(moved, 2 if is_ours else 15, atol=0.05)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_window_that_ends_where_no_gradient_is_finite(wrong):
  path, state = run(optimizer(), [1.0, 1.0, wrong, 1.0])
  wanted = expected([1, 3, -2, 3])
  np.testing.assert_allclose(path, wanted, rtol=1e-5)
  helpers.assert_finite(state)


BASES = {
  "momentum": optax.sgd(RATE, momentum=0.9),
  "adam": optax.adam(RATE),
  "rmsprop": optax.rmsprop(RATE),
}


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("base", BASES)
def test_the_base_keeps_nothing_of_a_gradient_that_is_not_finite(base, wrong):
  """What its state absorbs would not go back with the window."""
  tx = optimizer(base=BASES[base])
  path, state = run(tx, [1.0, 1.0, wrong, 1.0, 1.0])
  helpers.assert_finite((path, state))
  # To where the window began, which is one step from where it was opened.
  start, end, back, *later = path[:, 0]
  assert end < back < start
  assert later[1] < later[0] < back


def test_a_true_gradient_that_is_not_finite_alone_takes_nothing_back():
  path, _ = run(optimizer(), [np.nan])
  assert np.isnan(path).all()


def test_looking_twice_changes_nothing():
  """A second call finds nothing to do, and the window can still go back."""
  tx = optimizer()
  x = jnp.zeros(3)
  state = tx.init(x)
  for gradient, wanted in ((1.0, -1), (1.0, -4), (-5.0, -2)):
    updates, state = tx.update(jnp.full(3, gradient), state, x)
    x = optax.apply_updates(x, updates)
    for _ in range(2):
      x, state = optax_predict.fast_forward(tx, x, state)
    np.testing.assert_allclose(x, RATE * wanted * np.ones(3), rtol=1e-5)


@pytest.mark.parametrize(
  "dtype", ["bfloat16", "float16", "float64", "complex64"]
)
def test_parameters_of_any_dtype_go_back(dtype):
  with helpers.x64(dtype == "float64"):
    tx = optimizer(base=optax.sgd(0.125))
    x = jnp.array([1, 2], dtype)
    state = tx.init(x)

    @jax.jit
    def step(x, state, gradient):
      updates, state = tx.update(jnp.full(2, gradient, x.dtype), state, x)
      return optax_predict.fast_forward(
        tx, optax.apply_updates(x, updates), state
      )

    for gradient in (1.0, 1.0, -5.0):
      x, state = step(x, state, gradient)
    assert x.dtype == dtype
    # Eighths, which every one of these dtypes holds exactly.
    np.testing.assert_array_equal(np.asarray(x, np.complex128), [0.75, 1.75])


def test_the_secant_forecaster_and_the_adaptive_horizon_do_so():
  """Curvature that jumps, where a run that gathers speed cannot know of it."""

  def loss(x):
    return jnp.sum(jnp.where(x > 0, 0.5e-2 * x**2 + x, 5 * x**2 + x))

  horizon = optax_predict.horizons.adaptive(
    max_expected_error=0.8, max_error=3.0
  )
  tx = optax.chain(
    optax_predict.predict_gradients(horizon=horizon), optax.sgd(0.15)
  )

  def step(carry, _):
    x, state, last = carry
    value, gradient = jax.value_and_grad(loss)(x)
    updates, state = tx.update(gradient, state, x)
    opened = optax.apply_updates(x, updates)
    x, state = optax_predict.fast_forward(tx, opened, state)
    # Where the last window began; at the minimum everything is.
    is_back = jnp.all(x == last) & (value > -0.09)
    return (x, state, opened), is_back

  @jax.jit
  @jax.vmap
  def run(x):
    carry = x, tx.init(x), x
    (x, _, _), is_back = jax.lax.scan(step, carry, None, length=60)
    return loss(x), jnp.sum(is_back)

  # Whether a run meets the jump in the middle of a window is chance, and one or two
  # of them are not down again in time: the minimum is at -0.1.
  starts = np.random.default_rng(0).uniform(15, 40, size=(32, 2))
  ends, backs = run(jnp.asarray(starts, jnp.float32))
  # 26 to 28 of the 32, by how they are rounded.
  assert np.sum(backs > 0) > 16
  assert np.median(ends) < -0.09


def test_only_where_the_horizon_says_so():
  horizon = HORIZON._replace(max_error=None)
  path, state = run(optimizer(horizon), [1.0, 1.0, 1.0, -5.0])
  np.testing.assert_allclose(path, expected([1, 3, 3, -15]), rtol=1e-5)
  assert state[0].retreat is None


@pytest.mark.parametrize(
  "wrap",
  [
    lambda tx: optax.apply_if_finite(tx, 5),
    lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
  ],
)
def test_not_behind_a_wrapper(wrap):
  """A wrapper may keep parameters of its own, which would not go back."""
  path, _ = run(optimizer(wrap=wrap), [1.0, 1.0, 1.0, -5.0])
  np.testing.assert_allclose(path, expected([1, 3, 3, -15]), rtol=1e-5)


@pytest.mark.parametrize(
  "flat",
  [
    lambda predict, base: optax.flatten(optax.chain(predict, base)),
    lambda predict, base: optax.chain(optax.flatten(predict), base),
  ],
)
def test_behind_flatten_which_shows_one_vector(flat):
  predict = optax_predict.predict_gradients(
    optax_predict.forecasters.momentum(0.0), HORIZON
  )
  tx = flat(predict, optax.sgd(0.125))
  x = {"a": jnp.ones([2, 2]), "b": jnp.array([1, 2, 3], jnp.bfloat16)}

  @jax.jit
  def step(x, state, gradient):
    gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), x)
    updates, state = tx.update(gradients, state, x)
    return optax_predict.fast_forward(
      tx, optax.apply_updates(x, updates), state
    )

  state, start = tx.init(x), x
  for gradient, moved in ((1.0, 1), (1.0, 4), (1.0, 7), (-5.0, 5), (1.0, 8)):
    types = helpers.types((x, state))
    x, state = step(x, state, gradient)
    assert helpers.types((x, state)) == types
    # Eighths, which bfloat16 holds exactly.
    for got, p in zip(jax.tree.leaves(x), jax.tree.leaves(start)):
      np.testing.assert_array_equal(got, p - 0.125 * moved)


def test_parameters_of_another_length_are_refused():
  tx = optimizer()
  params = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
  with pytest.raises(ValueError, match="leaf"):
    optax_predict.fast_forward(tx, params, tx.init(jnp.zeros(4)))


def test_not_in_the_form_of_one_step_per_call():
  """There is no one to put the parameters back; the state says nothing."""
  tx = optimizer()
  x = jnp.zeros(3)
  state = tx.init(x)
  for gradient in [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -5.0]:
    updates, state = tx.update(jnp.full(3, gradient), state, x)
    x = optax.apply_updates(x, updates)
    assert int(state[0].retreat.is_due) == 0


def test_the_optimizer_keeps_what_it_has_learnt():
  """Only parameters go back: the momentum holds every gradient it was given."""
  tx = optimizer(base=optax.sgd(RATE, momentum=0.5))
  _, state = run(tx, [1.0, 1.0, -5.0])
  trace = 0.0
  for gradient in [1, 1, 1, 1, -5]:
    trace = 0.5 * trace + gradient
  np.testing.assert_allclose(state[1][0].trace, np.full(3, trace), rtol=1e-5)


def test_the_state_stays_as_init_made_it():
  horizon = optax_predict.horizons.adaptive(max_error=3.0)
  tx = optax.chain(
    optax_predict.predict_gradients(horizon=horizon), optax.adam(RATE)
  )
  params = helpers.nested(np.ones(7))
  state = tx.init(params)
  wanted = helpers.types(state)
  retreat = state[0].retreat._replace(
    length=jnp.float32(1), is_due=jnp.int32(1)
  )
  taken_back = state[0]._replace(retreat=retreat)
  _, after = jax.jit(lambda p, s: optax_predict.fast_forward(tx, p, s))(
    params, (taken_back, state[1])
  )
  assert helpers.types(after) == wanted


def test_it_keeps_a_run_on_a_cliff_from_falling():
  """A wall that no past gradient tells of, where a window ends beyond it."""

  def loss(x):
    return jnp.sum(-x) + 50 * jnp.sum(jnp.maximum(x - 2, 0) ** 2)

  def losses(max_error):
    horizon = optax_predict.horizons.fixed(8, -1.0)._replace(
      max_error=max_error
    )
    tx = optimizer(horizon)

    def step(carry, _):
      x, state = carry
      value, gradient = jax.value_and_grad(loss)(x)
      updates, state = tx.update(gradient, state, x)
      x = optax.apply_updates(x, updates)
      return optax_predict.fast_forward(tx, x, state), value

    x = jnp.zeros(1)
    return jax.lax.scan(step, (x, tx.init(x)), None, 6)[1]

  assert float(jnp.max(losses(None))) > 10
  assert float(losses(1.5)[-1]) < 0
