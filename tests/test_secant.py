"""The secant forecaster, against its formulas written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_predict
from tests import helpers


class DenseSecant:
  """The formulas of the docstring on whole vectors, nothing incremental."""

  def __init__(self, memory, symmetric=True):
    self.memory, self.damping, self.symmetric = memory, 0.6, symmetric
    self.ridge, self.growth = 1e-3, 1.2
    self.points, self.gradients = [], []
    self.errors = np.zeros(2)
    self.moments = np.zeros(5)

  def pairs(self):
    """Unit displacements and changes, oldest first, with their lengths."""
    s = np.diff(self.points, axis=0)[-self.memory :]
    y = np.diff(self.gradients, axis=0)[-self.memory :]
    lengths = np.linalg.norm(s, axis=1)
    return s / lengths[:, None], y / lengths[:, None], lengths

  def model(self, x):
    """The model's forecast without the blend, and L |r|."""
    if len(self.points) < 2:
      return self.gradients[-1], 0.0
    s, y, _ = self.pairs()
    age = np.arange(len(s))[::-1]
    ridge = np.diag(self.ridge * self.growth**age)
    inverse = np.linalg.inv(s @ s.T + ridge)
    d = x - self.points[-1]
    c = inverse @ s @ d
    r = d - s.T @ c
    largest = np.linalg.norm(y, axis=1).max()
    symmetric = s.T @ inverse @ (y @ r) if self.symmetric else 0
    forecast = (
      self.gradients[-1] + y.T @ c + symmetric + self.damping * largest * r
    )
    return forecast, largest * np.linalg.norm(r)

  def blend(self):
    pp, pq, qq, pg, qg = self.moments
    ridge = 0.3 * (pp + qq) / 2
    if pp + qq == 0:
      return 1.0, 0.0
    normal = np.array([[pp, pq], [pq, qq]]) + ridge * np.eye(2)
    return np.linalg.solve(normal, [pg + ridge, qg])

  def mean(self):
    count = min(5, self.memory + 1)
    return np.mean(self.gradients[-count:], axis=0)

  def predict(self, x):
    if not self.gradients:
      return np.zeros_like(x), 0.0
    a, b = self.blend()
    forecast, unexplained = self.model(x)
    mean_error, mean_unexplained = self.errors
    kappa = mean_error / mean_unexplained if mean_unexplained else 0.0
    return a * forecast + b * self.mean(), kappa * unexplained

  def observe(self, x, g):
    if self.gradients:
      forecast, _ = self.predict(x)
      p, unexplained = self.model(x)
      q = self.mean()
      error, size = np.linalg.norm(forecast - g), np.linalg.norm(g)
      scale = max(size, error / 10, unexplained / 10)
      new = np.array([error, unexplained]) / scale
      if unexplained > 0:
        self.errors = 0.7 * self.errors + 0.3 * new
      scale = max(size**2, p @ p / 100, q @ q / 100)
      new = np.array([p @ p, p @ q, q @ q, p @ g, q @ g]) / scale
      self.moments = 0.7 * self.moments + 0.3 * new
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


@pytest.mark.parametrize(
  "memory, symmetric", [(1, True), (3, True), (3, False), (10, True)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_dense_formulas(memory, symmetric, dtype):
  with helpers.x64(dtype == "float64"):
    forecaster = optax_predict.forecasters.secant(memory, symmetric=symmetric)
    dense = DenseSecant(memory, symmetric)
    history = forecaster.init(helpers.nested(np.zeros(7), dtype), None)
    predict, observe = jax.jit(forecaster.predict), jax.jit(forecaster.observe)
    last = np.zeros(7)
    for i, (x, g) in enumerate(walk(memory, 25)):
      displacement = helpers.nested(x - last, dtype)
      distance = jnp.asarray(np.linalg.norm(x - last), dtype)
      motion = optax_predict.Motion(jnp.int32(1), displacement, distance)
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
          atol=10 * tolerance * np.linalg.norm(g),
        )
      dense.observe(x, g)
      history = observe(
        history=history,
        gradients=helpers.nested(g, dtype),
        motion=motion,
        forecast=forecast,
      )
      last = x


def test_affine_gradient_is_exact_once_the_memory_spans_the_motion():
  """Conjugate directions of a quadratic: the fourth gradient is known."""
  rng = np.random.default_rng(0)
  matrix = rng.normal(size=(3, 3))
  hessian = matrix @ matrix.T + np.eye(3)
  forecaster = optax_predict.forecasters.secant(3, ridge=1e-6, ridge_growth=1.0)
  predictor = optax_predict.gradient_predictor(
    forecaster, optax_predict.horizons.fixed(1, -1.0)
  )
  state = predictor.init(jnp.zeros(3))
  points = np.cumsum(np.eye(4, 3, k=-1) + 0.1 * rng.normal(size=(4, 3)), axis=0)
  for x in points:
    gradient = jnp.asarray(hessian @ x + 1, jnp.float32)
    state = predictor.record_gradient(
      gradient, state, jnp.asarray(x, jnp.float32)
    )
  x = points[-1] + rng.normal(size=3)
  forecast, _ = predictor.predict_gradient(state, jnp.asarray(x, jnp.float32))
  # What is left is the blend's ridge and float32.
  helpers.assert_close(forecast, hessian @ x + 1, scale=1e4)


def test_parameters_that_do_not_move_add_no_pair():
  predictor = optax_predict.gradient_predictor()
  x = jnp.ones(3)
  state = predictor.init(x)
  for i in range(4):
    state = predictor.record_gradient((1.0 + i) * x, state, x)
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
  assert errors[jnp.bfloat16] < 1.5 * errors[None]
