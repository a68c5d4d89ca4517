"""Which of many vectors stay, against a search of all choices in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from optax_predict.forecasters.secant import selection
from tests import helpers
from tests import pairs

SIZE = 30


def step(*given):
  basis, known, rows, _, by = pairs.step(selection, *given)
  return basis, known, rows, by.source


def empty(r, count, dtype="float32"):
  basis = (jnp.zeros(SIZE, dtype),) * r
  return basis, jnp.zeros([r, r], dtype), jnp.zeros([2 * count, r], dtype)


def fading(i, count):
  """Weights of the rows of all pairs up to the i-th."""
  age = 2 * i + 1 - np.arange(2 * count)
  return np.where(age >= 0, 0.7 ** np.maximum(age, 0), 0.0)


def cast(arrays, dtype="float32"):
  return tuple(jnp.asarray(x, dtype) for x in arrays)


def dense(rows, basis):
  return np.asarray(rows, np.float64) @ np.stack(basis).astype(np.float64)


def left_out(vectors, rows):
  """What leaving each vector out would lose, and the rows it would leave."""
  for i in range(len(vectors)):
    others = np.delete(vectors, i, axis=0)
    nearest = np.linalg.lstsq(others.T, vectors[i], rcond=None)[0]
    miss = vectors[i] - nearest @ others
    loss = np.sum(rows[:, i] ** 2) * (miss @ miss)
    nearest = np.insert(nearest, i, 0.0)
    changed = rows + np.outer(rows[:, i], nearest - np.eye(len(vectors))[i])
    yield loss, changed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("r", [2, 5, 8])
def test_what_is_left_out_is_the_least_and_written_as_the_nearest(r, dtype):
  rng = np.random.default_rng(r)
  with helpers.x64(dtype == "float64"):
    basis, known, rows = empty(r, 12, dtype)
    kept, coordinates = np.zeros([r, SIZE]), np.zeros([24, r])
    for i in range(12):
      pair = rng.normal(size=(2, SIZE)) * rng.uniform(0.1, 10, size=(2, 1))
      say = fading(i, 12)
      basis, known, rows, _ = step(
        basis, known, rows, i, jnp.asarray(say, dtype), cast(pair, dtype)
      )
      lengths = np.linalg.norm(pair, axis=1, keepdims=True)
      vectors = np.concatenate([kept, pair / lengths])
      coordinates = np.pad(coordinates, ((0, 0), (0, 2)))
      coordinates[2 * i : 2 * i + 2, r:] = np.diag(lengths[:, 0])
      for _ in range(2):
        found = list(left_out(vectors, say[:, None] * coordinates))
        losses = [loss for loss, _ in found]
        free = np.flatnonzero(~np.any(vectors, axis=1))
        out = free[0] if free.size else np.argmin(losses)
        coordinates = found[out][1] / np.where(say > 0, say, 1)[:, None]
        coordinates[:, out] = coordinates[:, -1]
        vectors[out] = vectors[-1]
        coordinates, vectors = coordinates[:, :-1], vectors[:-1]
      kept = vectors
      helpers.assert_close(np.stack(basis), kept, dtype, 10)
      helpers.assert_close(rows, coordinates, dtype, 100)
      helpers.assert_close(known, kept @ kept.T, dtype, 10)


def test_vectors_that_stay_are_not_written_again():
  rng = np.random.default_rng(1)
  basis, known, rows = empty(6, 10)
  for i in range(10):
    before = basis
    say = jnp.asarray(fading(i, 10), jnp.float32)
    basis, known, rows, source = step(
      basis, known, rows, i, say, cast(rng.normal(size=(2, SIZE)))
    )
    stay = np.flatnonzero(np.asarray(source) < 6)
    np.testing.assert_array_equal(np.asarray(source)[stay], stay)
    assert len(stay) >= 4
    for j in stay:
      np.testing.assert_array_equal(basis[j], before[j])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vectors_of_one_plane_lose_nothing(dtype):
  """They are sums of any two of them, however many have come and gone."""
  rng = np.random.default_rng(2)
  plane = rng.normal(size=(2, SIZE))
  with helpers.x64(dtype == "float64"):
    basis, known, rows = empty(4, 15, dtype)
    wanted = np.zeros([30, SIZE])
    for i in range(15):
      pair = rng.normal(size=(2, 2)) @ plane
      wanted[2 * i : 2 * i + 2] = pair
      basis, known, rows, _ = step(
        basis, known, rows, i, jnp.ones(30, dtype), cast(pair, dtype)
      )
      helpers.assert_close(dense(rows, basis), wanted, dtype, 300)


def test_nearly_equal_vectors_keep_what_they_differ_by():
  """Moves down one valley: each is the last but for a hundredth."""
  rng = np.random.default_rng(3)
  basis, known, rows = empty(8, 20)
  along, *across = np.linalg.qr(rng.normal(size=(SIZE, 4)))[0].T
  wanted = along + 1e-2 * rng.normal(size=(40, 3)) @ across
  for i in range(20):
    pair = cast(wanted[2 * i : 2 * i + 2])
    say = jnp.asarray(fading(i, 20), jnp.float32)
    basis, known, rows, _ = step(basis, known, rows, i, say, pair)
  errors = np.linalg.norm(dense(rows, basis) - wanted, axis=1)
  # What stays is exact; the rest is as near as float32 tells vectors apart.
  assert np.all(errors[-8:] < 1e-6)
  assert np.all(errors[-20:] < 1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_sums_that_are_off_by_more_than_vectors_differ_do_no_harm(seed):
  """A run at a steady pace, where a million numbers are summed up.

  Nothing is divided by less than what the sums are off by, whose root bounds the
  coordinates: largest over 60 seeds 12 in the median and 64 at most, without damping
  195 and 852, with negative eigenvalues 1e13. So many times what the vectors differ
  by is how far a sum may be off.
  """
  off, differ = 3e-5, 1e-6
  rng = np.random.default_rng(seed)
  basis, known, rows = empty(8, 20)
  unit = np.linalg.qr(rng.normal(size=(SIZE, 1)))[0][:, 0]
  for i in range(20):
    # As symmetric as they are in use: each sum is kept once.
    noise = off * rng.normal(size=(8, 8)) * (np.asarray(known) > 0)
    known = known + jnp.asarray(np.tril(noise, -1) + np.tril(noise, -1).T)
    pair = cast(unit + differ * rng.normal(size=(2, SIZE)))
    say = jnp.asarray(fading(i, 20), jnp.float32)
    basis, known, rows, _ = step(basis, known, rows, i, say, pair)
    helpers.assert_finite((basis, known, rows))
  largest = 1 / np.sqrt(off)
  assert np.max(np.abs(rows)) < largest
  errors = np.linalg.norm(dense(rows, basis) - unit, axis=1)
  assert np.all(errors < largest * differ * np.sqrt(SIZE))


@pytest.mark.parametrize("none", [0, 1])
def test_a_vector_of_no_length_takes_no_place(none):
  """A gradient that did not change; the move to it is kept."""
  rng = np.random.default_rng(4)
  basis, known, rows = empty(6, 5)
  for i in range(5):
    pair = rng.normal(size=(2, SIZE))
    pair[none] = 0
    basis, known, rows, _ = step(
      basis, known, rows, i, jnp.ones(10), cast(pair)
    )
    assert np.count_nonzero(np.diag(known)) == i + 1
    found = dense(rows[2 * i : 2 * i + 2], basis)
    np.testing.assert_allclose(found, pair, atol=1e-5)
  helpers.assert_finite((basis, known, rows))
