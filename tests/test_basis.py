"""Many vectors in few orthonormal directions, against eigenvectors in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_predict
from optax_predict.forecasters.secant import rotation
from tests import helpers
from tests import pairs

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE = 40


def split(x, dtype="float32"):
  """A vector as a tree of two leaves."""
  x = jnp.asarray(x, dtype)
  return {"a": x[:15].reshape(3, 5), "b": x[15:]}


def joined(tree):
  leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
  return np.concatenate(leaves)


def step(*given):
  basis, known, rows, added, _ = pairs.step(rotation, *given)
  return basis, known, rows, added.is_worn


def empty(r, count, dtype="float32"):
  basis = tuple(split(np.zeros(SIZE), dtype) for _ in range(r))
  return basis, jnp.zeros([r, r], dtype), jnp.zeros([2 * count, r], dtype)


def stream(seed, length):
  """Vectors that have much in common, and some that nearly agree."""
  rng = np.random.default_rng(seed)
  mix = rng.normal(size=(SIZE, SIZE)) * np.logspace(0, -3, SIZE)
  for i in range(length):
    v = mix @ rng.normal(size=SIZE)
    yield v / np.linalg.norm(v), (v + 1e-3 * rng.normal(size=SIZE)) * 2.0**i


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("r", [1, 4, 12])
def test_directions_stay_orthonormal_and_hold_their_coordinates(r, dtype):
  with helpers.x64(dtype == "float64"):
    basis, known, rows = empty(r, 20, dtype)
    for i, pair in enumerate(stream(r, 20)):
      age = 2 * i + 1 - np.arange(40)
      say = np.where(age >= 0, 0.7 ** np.maximum(age, 0), 0.0)
      vectors = tuple(split(v, dtype) for v in pair)
      basis, known, rows, is_worn = step(
        basis, known, rows, i, jnp.asarray(say, dtype), vectors
      )
      w = np.stack([joined(x) for x in basis])
      # Vectors that agree to a thousandth: as much less is known of the rest.
      tolerance = 1000 * helpers.RTOL[dtype]
      np.testing.assert_allclose(w @ w.T, known, atol=tolerance)
      assert not is_worn
      # The last pair's coordinates are those of its vectors.
      for v, coordinates in zip(pair, np.asarray(rows[2 * i : 2 * i + 2])):
        np.testing.assert_allclose(
          coordinates, w @ v, atol=tolerance * np.linalg.norm(v)
        )


def test_what_is_kept_is_as_much_as_r_directions_can_hold():
  """One turn from exact coordinates keeps the leading eigenvectors."""
  r = 5
  basis, known, rows = empty(r, 3)
  vectors, rng = [], np.random.default_rng(0)
  say = np.linspace(1, 2, 6)
  for i in range(3):
    pair = [v / np.linalg.norm(v) for v in rng.normal(size=(2, SIZE))]
    vectors += pair
    basis, known, rows, _ = step(
      basis,
      known,
      rows,
      i,
      jnp.asarray(say, "float32"),
      tuple(map(split, pair)),
    )
  # Four directions held two pairs; the third makes six, and one has to go.
  weighted = say[:, None] * np.stack(vectors)
  values = np.linalg.eigvalsh(weighted @ weighted.T)[::-1]
  kept = np.sum((say[:, None] * np.asarray(rows, np.float64)) ** 2)
  np.testing.assert_allclose(kept, np.sum(values[:r]), rtol=1e-4)
  assert values[r] > 0.01 * kept


def test_a_vector_in_the_span_adds_no_direction():
  basis, known, rows = empty(6, 8)
  rng = np.random.default_rng(0)
  plane = rng.normal(size=(2, SIZE))
  for i in range(8):
    pair = tuple(split(rng.normal(size=2) @ plane) for _ in range(2))
    basis, known, rows, _ = step(basis, known, rows, i, jnp.ones(16), pair)
    assert np.trace(known) == 2
  for unused in basis[2:]:
    np.testing.assert_array_equal(joined(unused), 0)


def test_vectors_across_the_span_do_not_wear_the_basis():
  """All that a projection finds of them is rounding, however often."""
  axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, 6)))
  basis, known, rows = empty(6, 6)
  for i, axis in enumerate(axes.T):
    # A move, and the same change of the gradient along it.
    pair = split(axis), split(axis)
    basis, known, rows, is_worn = step(
      basis, known, rows, i, jnp.ones(12), pair
    )
    assert not is_worn
    assert np.trace(known) == i + 1


def errors_of_forecasts(dtype, length=800, size=64):
  """Relative errors along a descent that is kicked every forty gradients."""
  rng = np.random.default_rng(0)
  curvature = jnp.asarray(np.logspace(-3, 0, size), jnp.float32)
  kicks = 0.3 * rng.normal(size=(length, size))
  kicks[np.arange(length) % 40 > 0] = 0
  steps = rng.integers(2, 12, size=length)
  predictor = optax_predict.gradient_predictor(
    optax_predict.forecasters.secant(10, directions=10),
    optax_predict.horizons.fixed(1, -1.0),
    accumulator_dtype=dtype,
  )

  def gradient(x):
    return curvature * x + 0.05 * x**3

  def body(carry, now):
    x, state = carry
    kick, count = now
    x = x + kick
    state = predictor.record_gradient(gradient(x), state, x)
    x = jax.lax.fori_loop(0, count, lambda _, x: x - 0.7 * gradient(x), x)
    return (x, state), state.statistics.relative_error

  @jax.jit
  def run(x, kicks, steps):
    carry = x, predictor.init(x)
    return jax.lax.scan(body, carry, (kicks, steps))

  x = jnp.asarray(rng.normal(size=size), jnp.float32)
  (_, state), errors = run(x, jnp.asarray(kicks, jnp.float32), steps)
  helpers.assert_finite(state)
  return np.asarray(errors)


def test_a_basis_that_rounding_wore_out_is_begun_anew(monkeypatch):
  whole = np.median(errors_of_forecasts(None)[-300:])
  rounded = np.median(errors_of_forecasts(jnp.bfloat16)[-300:])
  monkeypatch.setattr(rotation, "_WORN", np.inf)
  worn = np.median(errors_of_forecasts(jnp.bfloat16)[-300:])
  assert whole < 0.02
  assert rounded < 0.05
  assert worn > 5 * rounded
