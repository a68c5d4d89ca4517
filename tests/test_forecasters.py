"""The contract every forecaster keeps."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

FORECASTERS = {
  "momentum": optax_predict.forecasters.momentum(),
  "momentum5": optax_predict.forecasters.momentum(0.5, history_size=5),
  "secant": optax_predict.forecasters.secant(3, directions=6),
  "secant, directions": optax_predict.forecasters.secant(3, directions=4),
  "trend": optax_predict.forecasters.trend(),
  "holt": optax_predict.forecasters.holt(),
}


def compiled(forecaster, **options):
  predictor = optax_predict.gradient_predictor(
    forecaster,
    optax_predict.horizons.fixed(prediction_steps=1, min_correlation=-1.0),
    **options,
  )
  return predictor._replace(
    record_gradient=jax.jit(predictor.record_gradient),
    predict_gradient=jax.jit(predictor.predict_gradient),
  )


PREDICTORS = {name: compiled(f) for name, f in FORECASTERS.items()}


@pytest.fixture(params=PREDICTORS)
def predictor(request):
  return PREDICTORS[request.param]


def feed(predictor, gradients, points):
  """The state after a sequence, and the forecast at its last point."""
  state = predictor.init(points[0])
  for gradient, point in zip(gradients[:-1], points[:-1], strict=True):
    state = predictor.record_gradient(gradient, state, point)
  return state, predictor.predict_gradient(state, points[-1])[0]


def sequence(seed, length, size=7):
  rng = np.random.default_rng(seed)
  points = np.cumsum(rng.normal(size=(length, size)), axis=0)
  return np.tanh(points) + 0.1 * rng.normal(size=(length, size)), points


def trees(values, dtype="float32"):
  return [helpers.nested(v, dtype) for v in values]


def test_fresh_state_is_zeros_and_predicts_zeros(predictor):
  params = helpers.nested(np.ones(7))
  state = predictor.init(params)
  for leaf in jax.tree.leaves(state):
    np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))
  forecast, _ = predictor.predict_gradient(state, params)
  for leaf in jax.tree.leaves(forecast):
    np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


def test_one_gradient_is_repeated(predictor):
  gradients, points = map(trees, sequence(0, 2))
  _, forecast = feed(predictor, gradients, [points[0], points[0]])
  helpers.assert_close(forecast, gradients[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_constant_gradient_is_reproduced(predictor, dtype):
  gradients, points = sequence(1, 8)
  gradients = trees([gradients[0]] * 8, dtype)
  _, forecast = feed(predictor, gradients, trees(points, dtype))
  helpers.assert_close(forecast, gradients[0], dtype)


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
@hypothesis.given(
  name=st.sampled_from(sorted(FORECASTERS)),
  seed=st.integers(0, 1000),
  exponent=st.integers(-20, 20),
)
def test_scaling_the_gradients_scales_the_forecast(name, seed, exponent):
  predictor = PREDICTORS[name]
  gradients, points = sequence(seed, 7)
  scale = 2.0**exponent
  _, forecast = feed(predictor, trees(gradients), trees(points))
  _, scaled = feed(predictor, trees(scale * gradients), trees(points))
  helpers.assert_close(
    helpers.flat(scaled), scale * helpers.flat(forecast), scale=100
  )


def test_leaves_may_come_in_any_order(predictor):
  gradients, points = sequence(2, 7)
  order = np.random.default_rng(0).permutation(7)

  def split(values):
    return [tuple(jnp.asarray(x, jnp.float32) for x in v) for v in values]

  _, forecast = feed(predictor, split(gradients), split(points))
  _, permuted = feed(
    predictor, split(gradients[:, order]), split(points[:, order])
  )
  helpers.assert_close(np.array(permuted), np.array(forecast)[order], scale=100)


def test_history_size_counts_up_to_its_capacity(predictor):
  gradients, points = sequence(3, 14)
  state, _ = feed(predictor, trees(gradients), trees(points))
  assert int(predictor.get_stats(state).history_size) in (2, 4, 5)
  assert int(predictor.get_stats(state).computed_steps) == 13


def test_a_complex_parameter_is_two_real_ones(predictor):
  gradients, points = sequence(4, 7, size=6)

  def pack(values):
    return [jnp.asarray(v[:3] + 1j * v[3:], jnp.complex64) for v in values]

  def split(values):
    return [jnp.asarray(v, jnp.float32) for v in values]

  _, forecast = feed(predictor, pack(gradients), pack(points))
  _, real = feed(predictor, split(gradients), split(points))
  assert forecast.dtype == jnp.complex64
  both = np.concatenate([forecast.real, forecast.imag])
  helpers.assert_close(both, real, scale=100)


# Which vectors few directions hold is settled in another way in half precision.
@pytest.mark.parametrize(
  "name", sorted(FORECASTERS.keys() - {"secant, directions"})
)
def test_a_bfloat16_history_predicts_nearly_the_same(name):
  half = compiled(FORECASTERS[name], accumulator_dtype=jnp.bfloat16)
  gradients, points = map(trees, sequence(5, 7))
  state, forecast = feed(half, gradients, points)
  kept = jax.tree.leaves(state.gradient_history)
  assert any(leaf.dtype == jnp.bfloat16 for leaf in kept)
  _, full = feed(PREDICTORS[name], gradients, points)
  helpers.assert_close(helpers.flat(forecast), helpers.flat(full), "bfloat16")


def test_any_finite_gradients_leave_it_finite(predictor):
  gradients, points = sequence(6, 9)
  sizes = np.array([1e17, 1e-30, 1e17, 0.0, 0.0, 1e-18, 1e17, 1.0, 1.0])
  state, forecast = feed(
    predictor, trees(sizes[:, None] * gradients), trees(points)
  )
  helpers.assert_finite(state)
  helpers.assert_finite(forecast)


def test_a_reset_forgets(predictor):
  gradients, points = map(trees, sequence(7, 7))
  state, forecast = feed(predictor, gradients, points)
  state = predictor.reset(state)
  for gradient, point in zip(gradients[:-1], points[:-1], strict=True):
    state = predictor.record_gradient(gradient, state, point)
  again, _ = predictor.predict_gradient(state, points[-1])
  np.testing.assert_array_equal(helpers.flat(again), helpers.flat(forecast))
