"""What holds for any tree, dtype, scale and order of steps."""

import functools
import itertools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from tests import helpers

pytestmark = pytest.mark.usefixtures("quick_compilation")

FORECASTERS = {
  "momentum": optax_predict.forecasters.momentum(),
  "secant": optax_predict.forecasters.secant(2, directions=3),
}
SHAPES = [(), (1,), (3,), (2, 2), (0,), (0, 3), (40,)]


def few(examples):
  return hypothesis.settings(
    max_examples=examples,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.generate],
  )


def shapes():
  """Any nesting of tuples, lists and dicts around shapes and None."""
  return st.recursive(
    st.sampled_from([*SHAPES, None]),
    lambda inner: (
      st.lists(inner, max_size=3).map(lambda x: ("list", x))
      | st.lists(inner, max_size=3).map(lambda x: ("tuple", x))
      | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
    max_leaves=5,
  )


def build(shape, make):
  """A tree of that nesting, each leaf made by ``make(shape)``."""
  if shape is None:
    return None
  if isinstance(shape, dict):
    return {key: build(value, make) for key, value in shape.items()}
  if shape and shape[0] in ("list", "tuple"):
    kind = list if shape[0] == "list" else tuple
    return kind(build(item, make) for item in shape[1])
  return make(shape)


def sequence(seed, template, length=5):
  """Points of a random walk and gradients that bend along it, stacked."""
  rng = np.random.default_rng(seed)

  def make(leaf):
    steps = rng.normal(size=(length, *leaf.shape))
    if jnp.iscomplexobj(leaf):
      steps = steps + 1j * rng.normal(size=steps.shape)
    return jnp.asarray(np.cumsum(steps, axis=0), leaf.dtype)

  points = jax.tree.map(make, template)
  noise = jax.tree.map(make, template)
  gradients = jax.tree.map(lambda x, n: 0.5 * x + 0.1 * n, points, noise)
  return gradients, points


def forecast(forecaster, gradients, points):
  """Forecast at the last point from the gradients before it, and its state."""
  predictor = optax_predict.gradient_predictor(
    forecaster, optax_predict.horizons.fixed(1, min_correlation=-1.0)
  )

  @jax.jit
  def run(gradients, points):
    def record(state, now):
      return predictor.record_gradient(now[0], state, now[1]), None

    last = jax.tree.map(lambda x: x[-1], points)
    past = jax.tree.map(lambda x: x[:-1], (gradients, points))
    state, _ = jax.lax.scan(record, predictor.init(last), past)
    predicted, _ = predictor.predict_gradient(state, last)
    return predicted, state

  return run(gradients, points)


def ravel(tree):
  """All numbers of stacked trees, ``[length, n]``; complex ones in two."""
  parts = []
  for leaf in jax.tree.leaves(tree):
    rows = np.asarray(leaf).reshape(len(leaf), -1)
    if np.iscomplexobj(rows):
      parts += [rows.real, rows.imag]
    else:
      parts.append(rows.astype(np.float64))
  return np.concatenate(parts, axis=1)


def agrees_with_a_flat_vector(forecaster, template, dtype, seed):
  """A tree is predicted as the vector of its numbers, in any order."""
  gradients, points = sequence(seed, template)
  got, state = forecast(forecaster, gradients, points)
  assert jax.tree.structure(got) == jax.tree.structure(template)
  for leaf, like in zip(jax.tree.leaves(got), jax.tree.leaves(template)):
    assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)
  helpers.assert_finite(jax.tree.map(jnp.abs, state))
  flat_gradients, flat_points = ravel(gradients), ravel(points)
  order = np.random.default_rng(seed).permutation(flat_points.shape[1])
  wide = "float64" if dtype == "float64" else "float32"
  wanted, _ = forecast(
    forecaster,
    jnp.asarray(flat_gradients[:, order], wide),
    jnp.asarray(flat_points[:, order], wide),
  )
  stacked = jax.tree.map(lambda x: np.asarray(x)[None], got)
  helpers.assert_close(ravel(stacked)[0, order], wanted, dtype, scale=10)


@few(5)
@hypothesis.given(
  name=st.sampled_from(sorted(FORECASTERS)),
  shape=shapes(),
  dtype=st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
  seed=st.integers(0, 1000),
)
@hypothesis.example("secant", {"a": (), "b": None}, "float32", 0)
@hypothesis.example("secant", ("list", [(0,), (2, 2), ()]), "float64", 1)
@hypothesis.example("secant", (40,), "bfloat16", 2)
def test_a_tree_is_predicted_as_the_vector_of_its_numbers(
  name, shape, dtype, seed
):
  with helpers.x64(dtype == "float64"):
    template = build(shape, lambda s: jnp.zeros(s, dtype))
    hypothesis.assume(jax.tree.leaves(template))
    agrees_with_a_flat_vector(FORECASTERS[name], template, dtype, seed)


@pytest.mark.parametrize("name", FORECASTERS)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_parameters_are_pairs_of_real_ones(name, dtype):
  with helpers.x64(dtype == "complex128"):
    template = {"z": jnp.zeros(3, dtype), "x": jnp.zeros((), "float32")}
    agrees_with_a_flat_vector(FORECASTERS[name], template, "float32", 3)


@pytest.mark.parametrize("name", FORECASTERS)
def test_leaves_of_several_dtypes(name):
  template = (jnp.zeros(3, jnp.bfloat16), {"a": jnp.zeros(4, jnp.float32)})
  agrees_with_a_flat_vector(FORECASTERS[name], template, "bfloat16", 4)


# Closed loops: a stiff quadratic with a bend in it, one program for all tests.
CURVATURES = np.logspace(-2, 0, 8, dtype=np.float32)
CALLS = 25
RATE = np.float32(2**-4)


def optimizer(name, rate):
  horizon = optax_predict.horizons.adaptive(max_steps=8)
  return optax.chain(
    optax_predict.predict_gradients(FORECASTERS[name], horizon),
    optax.sgd(rate, momentum=0.5),
  )


def step(name, scale, rate, linear, params, state):
  """One call: a true gradient and the window after it."""
  x = params["x"]
  bent = jnp.asarray(CURVATURES) * x + 0.01 * x**3
  gradients = {"x": scale * jnp.where(linear > 0, 1 + 0 * x, bent)}
  tx = optimizer(name, rate)
  updates, state = tx.update(gradients, state, params)
  params = optax.apply_updates(params, updates)
  return optax_predict.fast_forward(tx, params, state)


@functools.partial(jax.jit, static_argnums=0)
def closed_loop(name, scale, rate, linear, start):
  """Parameters and states after every call."""

  def body(carry, _):
    carry = step(name, scale, rate, linear, *carry)
    return carry, (carry[0]["x"], carry[1])

  params = {"x": start}
  carry = (params, optimizer(name, rate).init(params))
  return jax.lax.scan(body, carry, None, length=CALLS)[1]


def stats_of(states, call=-1):
  return optax_predict.get_stats(jax.tree.map(lambda x: x[call], states))


def start(seed):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=8), jnp.float32)


@few(15)
@hypothesis.given(
  name=st.sampled_from(sorted(FORECASTERS)),
  seed=st.integers(0, 1000),
  exponent=st.integers(-10, 10),
)
def test_loss_in_another_unit_gives_the_same_run(name, seed, exponent):
  """Powers of four and their roots are exact: not a bit differs."""
  scale = np.float32(4.0**exponent)
  path, states = closed_loop(name, np.float32(1), RATE, 0, start(seed))
  other, scaled = closed_loop(name, scale, RATE / scale, 0, start(seed))
  np.testing.assert_array_equal(path, other)
  stats = stats_of(states)
  assert int(stats.predicted_steps) > 0
  jax.tree.map(np.testing.assert_array_equal, stats, stats_of(scaled))


@few(15)
@hypothesis.given(
  name=st.sampled_from(sorted(FORECASTERS)), seed=st.integers(0, 1000)
)
def test_constant_gradients_are_reproduced(name, seed):
  """On a linear loss the run is the base's, with fewer gradients."""
  rate = np.float32(0.125)
  path, states = closed_loop(name, np.float32(1), rate, 1, start(seed))
  steps = int(stats_of(states).total_steps)
  assert steps > 4 * CALLS
  x, velocity = np.asarray(start(seed), np.float64), np.zeros(8)
  for _ in range(steps):
    velocity = 1 + 0.5 * velocity
    x = x - rate * velocity
  np.testing.assert_allclose(path[-1], x, rtol=1e-4)


@pytest.mark.parametrize("name", FORECASTERS)
def test_runs_are_repeated_bit_by_bit(name):
  arguments = (name, np.float32(1), RATE, 0, start(0))
  first = closed_loop(*arguments)
  again = closed_loop(*arguments)
  compiled_anew = jax.jit(closed_loop.__wrapped__, static_argnums=0)(*arguments)
  for other in (again, compiled_anew):
    jax.tree.map(np.testing.assert_array_equal, first, other)


@pytest.mark.parametrize("name", FORECASTERS)
def test_scan_and_single_calls_are_the_same(name):
  """From every state of the run: rounding leads runs apart, but no call."""
  path, states = closed_loop(name, np.float32(1), RATE, 0, start(0))
  one_call = jax.jit(step, static_argnums=0)
  carries = [
    jax.tree.map(lambda x, i=i: x[i], ({"x": path}, states))
    for i in range(CALLS)
  ]
  pairs = [
    (one_call(name, np.float32(1), RATE, 0, *before), after)
    for before, after in itertools.pairwise(carries)
  ]
  helpers.assert_calls_agree(pairs)
  assert int(stats_of(states).total_steps) > 2 * CALLS


SPANNING = optax_predict.gradient_predictor(
  optax_predict.forecasters.secant(3, ridge=1e-5, staleness=[0.0], cubic=0.0),
  optax_predict.horizons.fixed(1, min_correlation=-1.0),
)


@jax.jit
def predicted_after(gradients, points, x):
  state, _ = jax.lax.scan(
    lambda s, now: (SPANNING.record_gradient(now[0], s, now[1]), None),
    SPANNING.init(x),
    (gradients, points),
  )
  return SPANNING.predict_gradient(state, x)[0]


@few(15)
@hypothesis.given(
  seed=st.integers(0, 1000),
  asymmetry=st.sampled_from([0.0, 0.1]),
  decades=st.floats(0, 3),
)
def test_affine_gradients_are_exact_where_the_memory_spans(
  seed, asymmetry, decades
):
  rng = np.random.default_rng(seed)
  rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
  hessian = rotation * np.logspace(-decades, 0, 3) @ rotation.T
  hessian = hessian + asymmetry * np.triu(rng.normal(size=(3, 3)), 1)
  moves, _ = np.linalg.qr(rng.normal(size=(3, 3)))
  moves *= rng.uniform(0.5, 2, 3)
  first = rng.normal(size=3)
  points = first + np.concatenate(
    [np.zeros((1, 3)), np.cumsum(moves.T, axis=0)]
  )
  x = points[-1] + rng.normal(size=3)
  offset = rng.normal(size=3)
  got = predicted_after(
    *(
      jnp.asarray(a, jnp.float32)
      for a in (points @ hessian.T + offset, points, x)
    )
  )
  size = np.linalg.norm(hessian, 2) * np.linalg.norm(x - points[-1])
  # The ridge leaves 1e-5 of a move out; the rest is float32.
  error = np.linalg.norm(got - (hessian @ x + offset))
  assert error <= 1e-4 * (size + np.linalg.norm(offset) + np.linalg.norm(x))
