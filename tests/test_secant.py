"""The secant forecaster, against its formulas written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")


class DenseSecant:
  """The formulas of the docstring on whole vectors, nothing incremental."""

  STALENESS = (1e-3, 1e-2, 1e-1, 1.0)

  def __init__(self, memory):
    self.memory, self.damping = memory, 0.6
    self.ridge, self.cubic = 1e-5, 0.5
    self.points, self.gradients = [], []
    self.errors = np.zeros(2)
    self.scores = np.zeros(len(self.STALENESS))
    self.fits = np.zeros((len(self.STALENESS), 2))

  def pairs(self):
    """Unit displacements and changes, oldest first, with their lengths."""
    s = np.diff(self.points, axis=0)[-self.memory :]
    y = np.diff(self.gradients, axis=0)[-self.memory :]
    lengths = np.linalg.norm(s, axis=1)
    return s / lengths[:, None], y / lengths[:, None], lengths

  def model(self, candidate, x):
    """The forecast without gamma r, r, and L."""
    s, y, lengths = self.pairs()
    places = np.array(self.points[-1 - self.memory :]) - self.points[-1]
    far = np.linalg.norm((places[1:] + places[:-1]) / 2, axis=1)
    # What second derivatives make of a place: all products of its coordinates.
    weight = np.sqrt(self.cubic / 2) / np.linalg.norm(places, axis=1).max()

    def lift(place):
      return np.append(place, weight * np.outer(place, place))

    lifted = np.diff([lift(place) for place in places], axis=0)
    lifted /= lengths[:, None]
    kernel = lifted @ lifted.T
    doubt = self.ridge + self.STALENESS[candidate] * (far / lengths[-1]) ** 2
    inverse = np.linalg.inv(kernel + np.diag(doubt * np.diag(kernel)))
    d = x - self.points[-1]
    c = inverse @ lifted @ lift(d)
    r = d - s.T @ c
    largest = np.linalg.norm(y, axis=1).max()
    symmetric = s.T @ inverse @ (y @ r)
    return self.gradients[-1] + y.T @ c + symmetric, r, largest

  def forecast(self, candidate, x):
    p, r, largest = self.model(candidate, x)
    explained, size = self.fits[candidate]
    gamma = self.damping * largest
    if size > 0:
      gamma = (explained + 0.15 * size * gamma) / (1.15 * size)
    return p + np.clip(gamma, 0, largest) * r

  def predict(self, x):
    if not self.gradients:
      return np.zeros_like(x), 0.0
    if len(self.gradients) == 1:
      return self.gradients[-1], 0.0
    best = np.argmin(self.scores)
    _, r, largest = self.model(best, x)
    error, unexplained = self.errors
    kappa = error / unexplained if unexplained else 0.0
    return self.forecast(best, x), kappa * largest * np.linalg.norm(r)

  def observe(self, x, g):
    if len(self.gradients) > 1:
      size = np.linalg.norm(g)
      candidates = range(len(self.scores))
      errors = [np.linalg.norm(self.forecast(i, x) - g) for i in candidates]
      best = np.argmin(self.scores)
      _, r, largest = self.model(best, x)
      new = np.array([errors[best], largest * np.linalg.norm(r)])
      if new[1] > 0:
        new /= max(size, new.max() / 10)
        self.errors = 0.7 * self.errors + 0.3 * new
      for i in candidates:
        p, r, _ = self.model(i, x)
        new = np.array([r @ (g - p), r @ r]) / size**2
        self.fits[i] = 0.7 * self.fits[i] + 0.3 * new
      new = np.minimum(np.array(errors) / size, 1.5)
      self.scores = 0.7 * self.scores + 0.3 * new
    self.points.append(x)
    self.gradients.append(g)


def walk(seed, steps, size=7):
  """A curved path and the gradient of a quartic along it."""
  rng = np.random.default_rng(seed)
  matrix = rng.normal(size=(size, size))
  hessian = matrix @ matrix.T / size

  def gradient(x):
    return hessian @ x + 0.05 * x**3

  x = rng.normal(size=size)
  for _ in range(steps):
    yield x, gradient(x)
    x = x - 0.1 * gradient(x) + 0.02 * rng.normal(size=size)


# Seven directions hold everything there is: nothing is lost in them but what
# float32 does not resolve.
@pytest.mark.parametrize(
  "dtype, memory, directions",
  [
    *((d, m, 2 * m) for d in ("float32", "float64") for m in (1, 3, 10)),
    *((d, 10, 7) for d in ("float32", "float64")),
  ],
)
def test_equals_dense_formulas(memory, directions, dtype):
  with helpers.x64(dtype == "float64"):
    forecaster = optax_predict.forecasters.secant(memory, directions=directions)
    dense = DenseSecant(memory)
    history = forecaster.init(helpers.nested(np.zeros(7), dtype), None)
    predict, observe = jax.jit(forecaster.predict), jax.jit(forecaster.observe)
    last = np.zeros(7)
    for i, (x, g) in enumerate(walk(memory, 25)):
      distance = jnp.asarray(np.linalg.norm(x - last), dtype)
      motion = optax_predict.Motion(
        jnp.int32(1),
        params=helpers.nested(x - last, dtype),
        anchor=helpers.nested(np.zeros(7), dtype),
        distance=distance,
      )
      forecast = predict(history, motion)
      wanted, error = dense.predict(x)
      scale = 100 if dtype == "float32" else 1e3
      helpers.assert_close(
        helpers.flat(forecast.gradients), wanted, dtype, scale
      )
      if i > 1:
        # The part of a move outside the span is a difference of squares.
        tolerance = helpers.RTOL[dtype]
        np.testing.assert_allclose(
          forecast.expected_error,
          error,
          rtol=1e3 * tolerance,
          atol=30 * tolerance * np.linalg.norm(g),
        )
      dense.observe(x, g)
      history = observe(
        history=history,
        gradients=helpers.nested(g, dtype),
        motion=motion,
        error=jnp.linalg.norm(helpers.flat(forecast.gradients) - g),
      )
      last = x


def test_affine_gradient_is_exact_once_the_memory_spans_the_motion():
  """Conjugate directions of a quadratic: the fourth gradient is known."""
  rng = np.random.default_rng(0)
  matrix = rng.normal(size=(3, 3))
  hessian = matrix @ matrix.T + np.eye(3)
  forecaster = optax_predict.forecasters.secant(
    3, ridge=1e-6, staleness=[0.0], cubic=0.0
  )
  predictor = optax_predict.gradient_predictor(
    forecaster, optax_predict.horizons.fixed(1, -1.0)
  )
  state = predictor.init(jnp.zeros(3))
  record = jax.jit(predictor.record_gradient)
  points = np.cumsum(np.eye(4, 3, k=-1) + 0.1 * rng.normal(size=(4, 3)), axis=0)
  for x in points:
    gradient = jnp.asarray(hessian @ x + 1, jnp.float32)
    state = record(gradient, state, jnp.asarray(x, jnp.float32))
  x = points[-1] + rng.normal(size=3)
  forecast, _ = predictor.predict_gradient(state, jnp.asarray(x, jnp.float32))
  # What is left is the ridge and float32.
  helpers.assert_close(forecast, hessian @ x + 1, scale=1e4)


def test_quadratic_gradient_is_exact_once_the_memory_spans_the_products():
  """Two moves and three products of two parameters: five pairs know them all."""
  rng = np.random.default_rng(0)
  third = rng.normal(size=(2, 2, 2))

  def gradient(x):
    return 1 + x @ np.array([[2.0, 1.0], [1.0, 3.0]]) + x @ third @ x

  with helpers.x64(True):
    forecaster = optax_predict.forecasters.secant(
      5, directions=10, ridge=1e-9, staleness=[0.0], cubic=1.0
    )
    predictor = optax_predict.gradient_predictor(
      forecaster, optax_predict.horizons.fixed(1, -1.0)
    )
    state = predictor.init(jnp.zeros(2))
    record = jax.jit(predictor.record_gradient)
    for x in rng.normal(size=(6, 2)):
      state = record(jnp.asarray(gradient(x)), state, jnp.asarray(x))
    x = rng.normal(size=2)
    forecast, _ = predictor.predict_gradient(state, jnp.asarray(x))
  np.testing.assert_allclose(forecast, gradient(x), rtol=1e-5)


def test_parameters_that_do_not_move_add_no_pair():
  predictor = optax_predict.gradient_predictor()
  x = jnp.ones(3)
  state = predictor.init(x)
  record = jax.jit(predictor.record_gradient)
  for i in range(4):
    state = record((1.0 + i) * x, state, x)
    helpers.assert_finite(state)
  assert int(state.gradient_history.pairs) == 0
  gradients, _ = predictor.predict_gradient(state, x)
  np.testing.assert_array_equal(gradients, 4 * np.ones(3))


def test_bfloat16_history_predicts_nearly_as_well():
  errors = {}
  for dtype in (None, jnp.bfloat16):
    predictor = optax_predict.gradient_predictor(accumulator_dtype=dtype)
    state = predictor.init(jnp.zeros(7))
    record = jax.jit(predictor.record_gradient)
    for x, g in walk(3, 30):
      state = record(
        jnp.asarray(g, jnp.float32), state, jnp.asarray(x, jnp.float32)
      )
    errors[dtype] = float(predictor.get_stats(state).mean_error)
  # Of a gradient: bfloat16 keeps changes to four parts in a thousand.
  assert errors[jnp.bfloat16] < errors[None] + 0.05
