"""The verbs, against an independent NumPy reading of the original rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")


class NumpyRule:
  """The original component, with its known defects mended.

  Quality is the correlation between a forecast and the true gradient it was
  made for; a correction exists only where something was predicted.
  """

  def __init__(self, momentum, prediction_steps, min_correlation, weight):
    self.momentum, self.weight = momentum, weight
    self.prediction_steps = prediction_steps
    self.min_correlation = min_correlation
    self.history = []
    self.accumulated = 0.0
    self.predicted_in_window = 0
    self.correlation = None
    self.errors = []
    self.computed = self.predicted = 0

  def should_compute_full(self):
    if len(self.history) < 2:
      return True
    if self.correlation < self.min_correlation:
      return True
    return self.predicted_in_window >= self.prediction_steps

  def forecast(self):
    if not self.history:
      return np.zeros(7)
    if len(self.history) == 1:
      return self.history[-1]
    change = self.history[-1] - self.history[-2]
    return self.history[-1] + self.momentum * change

  def compute_correction(self, actual):
    if self.predicted_in_window == 0:
      return np.zeros(7)
    correction = actual - self.forecast()
    self.accumulated = self.accumulated + correction
    return correction

  def record_gradient(self, actual):
    if self.history:
      forecast, last = self.forecast(), self.history[-1]
      norm = np.linalg.norm
      self.correlation = forecast @ actual / norm(forecast) / norm(actual)
      scale = np.sqrt(norm(actual) * norm(last))
      self.errors.append(norm(forecast - actual) / scale)
    self.history = [*self.history[-4:], actual]
    self.predicted_in_window = 0
    self.computed += 1

  def apply_correction(self, gradients):
    corrected = gradients + self.weight * self.accumulated
    self.accumulated = 0.0
    return corrected

  def predict_gradient(self):
    self.predicted_in_window += 1
    self.predicted += 1
    return self.forecast()


def irregular_sequence(seed, length):
  """Smooth stretches, jumps, reversals and changes of scale."""
  rng = np.random.default_rng(seed)
  times = np.linspace(0, 6, length)
  phase = rng.uniform(0, 6, size=7)
  values = np.cos(times[:, None] * rng.uniform(0.1, 1.0, 7) + phase)
  values *= np.exp(rng.normal(scale=0.2, size=(length, 1)))
  values[length // 3 :] *= -3.0
  values[2 * length // 3 :] += rng.normal(size=7)
  return values


def run_reference(rule, sequence):
  emitted, pattern, corrections = [], "", []
  for actual in sequence:
    if rule.should_compute_full():
      corrections.append(rule.compute_correction(actual))
      rule.record_gradient(actual)
      emitted.append(rule.apply_correction(actual))
      pattern += "A"
    else:
      emitted.append(rule.predict_gradient())
      pattern += "."
  return np.array(emitted), pattern, np.array(corrections)


def make_predictor(momentum=0.9, steps=4, min_correlation=0.8, weight=0.5):
  return optax_predict.gradient_predictor(
    optax_predict.forecasters.momentum(momentum, history_size=5),
    optax_predict.horizons.fixed(steps, min_correlation),
    correction_weight=weight,
  )


def step(predictor, state, actual):
  def full(state):
    correction, state = predictor.compute_correction(actual, state)
    state = predictor.record_gradient(actual, state)
    gradients, state = predictor.apply_correction(actual, state)
    return gradients, correction, state

  def predicted(state):
    gradients, state = predictor.predict_gradient(state)
    return gradients, jax.tree.map(jnp.zeros_like, actual), state

  due = predictor.should_compute_full(state)
  gradients, correction, state = jax.lax.cond(due, full, predicted, state)
  return state, (gradients, correction, due)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
  "momentum, steps, min_correlation, weight",
  [
    (0.9, 4, 0.8, 0.5),
    (0.0, 1, -1.0, 1.0),
    (1.5, 7, 0.99, 0.25),
  ],
)
def test_verbs_equal_numpy_reading(
  dtype, seed, momentum, steps, min_correlation, weight
):
  sequence = irregular_sequence(seed, 60)
  with helpers.x64(dtype == "float64"):
    # Both sides see the same rounded gradients.
    trees = [helpers.nested(values, dtype) for values in sequence]
    rounded = np.array([helpers.flat(tree) for tree in trees])
    rule = NumpyRule(momentum, steps, min_correlation, weight)
    emitted, pattern, corrections = run_reference(rule, rounded)

    predictor = make_predictor(momentum, steps, min_correlation, weight)
    state = predictor.init(trees[0])
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *trees)
    state, (gradients, correction, due) = jax.jit(
      lambda state, xs: jax.lax.scan(
        lambda s, x: step(predictor, s, x), state, xs
      )
    )(state, stacked)
    unstacked = [
      helpers.flat(jax.tree.map(lambda x, i=i: x[i], gradients))
      for i in range(len(sequence))
    ]
    corrected = [
      helpers.flat(jax.tree.map(lambda x, i=i: x[i], correction))
      for i in np.flatnonzero(due)
    ]
    stats = predictor.get_stats(state)
    assert "".join("A" if d else "." for d in due) == pattern
    helpers.assert_close(np.array(unstacked), emitted, dtype)
    helpers.assert_close(np.array(corrected), corrections, dtype)
    assert int(stats.computed_steps) == rule.computed
    assert int(stats.predicted_steps) == rule.predicted
    share = rule.predicted / len(sequence)
    np.testing.assert_allclose(stats.prediction_ratio, share, rtol=1e-6)
    tolerance = 3e-2 if dtype == "bfloat16" else 1e-4
    np.testing.assert_allclose(
      stats.mean_error, np.mean(rule.errors), rtol=tolerance
    )
    np.testing.assert_allclose(
      stats.correlation, rule.correlation, rtol=tolerance
    )
    for leaf, like in zip(
      jax.tree.leaves(gradients), jax.tree.leaves(trees[0]), strict=True
    ):
      assert leaf.dtype == like.dtype


def test_sequences_exercise_every_reason_for_a_true_gradient():
  patterns = ""
  for seed in range(4):
    rule = NumpyRule(0.9, 4, 0.8, 0.5)
    patterns += run_reference(rule, irregular_sequence(seed, 60))[1] + " "
  assert patterns.startswith("AA")  # short history
  assert "A....A" in patterns  # window used up
  assert "AAA" in patterns  # poor quality


def test_pattern_of_good_forecasts():
  predictor = make_predictor(steps=4)
  actual = jnp.array([1.0, 2.0])
  state = predictor.init(actual)
  pattern = ""
  for _ in range(17):
    state, (_, _, due) = step(predictor, state, actual)
    pattern += "A" if due else "."
  assert pattern == "AA....A....A....A"


def test_jit_equals_eager():
  predictor = make_predictor()
  sequence = irregular_sequence(5, 20)
  eager = compiled = predictor.init(jnp.zeros(7))
  jitted = jax.jit(lambda s, a: step(predictor, s, a))
  for values in sequence:
    actual = jnp.asarray(values, jnp.float32)
    eager, (gradients, _, _) = step(predictor, eager, actual)
    compiled, (jit_gradients, _, _) = jitted(compiled, actual)
    helpers.assert_close(jit_gradients, gradients)
  helpers.assert_close(compiled, eager)


def test_reset_is_a_fresh_state():
  predictor = make_predictor()
  fresh = predictor.init(jnp.ones(7))
  state = fresh
  for values in irregular_sequence(1, 9):
    state, _ = step(predictor, state, jnp.asarray(values, jnp.float32))
  again = predictor.reset(state)
  assert helpers.types(again) == helpers.types(fresh)
  jax.tree.map(np.testing.assert_array_equal, again, fresh)


def test_stats_read_as_one_line():
  predictor = make_predictor()
  state = predictor.init(jnp.ones(7))
  for _ in range(12):
    state, _ = step(predictor, state, jnp.ones(7))
  line = str(predictor.get_stats(state))
  assert line.startswith("12 steps from 4 true gradients (66.7% predicted)")
  assert "\n" not in line
