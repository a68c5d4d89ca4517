"""Few arrays for many: what is put together comes back as it was."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from optax_predict.core import packing
from optax_predict.engine import initial
from optax_predict.engine import predictor
from optax_predict.engine import state as predict_state
from tests import helpers

FORECASTERS = optax_predict.forecasters
HORIZONS = optax_predict.horizons

KINDS = {"int32": 0, "bool": 0, "int8": 0, "float32": 1, "bfloat16": 1}
arrays = st.tuples(
  st.sampled_from([*KINDS, "uint32", "complex64"]),
  st.lists(st.integers(1, 3), max_size=3),
)
trees = st.lists(st.one_of(arrays, st.none()), min_size=1, max_size=8)


def build(kinds):
  """A tree of counted numbers, and its shapes; ``None`` stands alone."""
  tree, like, count = [], [], 0
  for kind in kinds:
    if kind is None:
      tree.append({"x": jnp.arange(4.0), "y": (jnp.ones(2, jnp.int32),)})
      like.append(None)
      continue
    dtype, shape = kind
    size = int(np.prod(shape))
    leaf = count + np.arange(size).reshape(shape)
    count += size
    tree.append(jnp.asarray(leaf, dtype))
    like.append(jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)))
  return tree, like


def check_equal(found, wanted):
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


@hypothesis.given(trees)
@hypothesis.settings(deadline=None, max_examples=30)
def test_a_tree_comes_back(kinds):
  tree, like = build(kinds)
  packed = packing.pack(tree, like)
  check_equal(packing.unpack(packed, like), tree)
  # Those that fit into no vector stand alone too.
  sizes, alone = [0, 0], 0
  for dtype, shape in (kind or (None, []) for kind in kinds):
    if dtype in KINDS:
      sizes[KINDS[dtype]] += int(np.prod(shape))
    else:
      alone += 1
  assert [packed.integers.size, packed.numbers.size] == sizes
  assert packed.integers.dtype == jnp.int32
  assert packed.numbers.dtype == jnp.float32
  assert len(packed.trees) == alone


def test_nothing_is_rounded_beside_numbers_of_64_bits():
  with helpers.x64(True):
    tree = [jnp.asarray(1 / 3, x) for x in ("float32", "float64")]
    packed = packing.pack(tree, tree)
    assert packed.numbers.dtype == jnp.float64
    check_equal(packing.unpack(packed, tree), tree)


def test_what_comes_back_otherwise_is_named():
  tree, like = build([("float32", [2]), ("int32", [])])
  for i, other in ((0, jnp.ones(3)), (1, jnp.ones([]))):
    changed = [other if i == j else x for j, x in enumerate(tree)]
    with pytest.raises(ValueError, match=rf"\[{i}\] came back as float32"):
      packing.pack(changed, like)


def test_many_at_once_come_back_with_their_axis():
  tree, like = build([("float32", [2]), None, ("int32", []), ("float32", [])])
  many = jax.tree.map(lambda x: jnp.stack([x, x + 1, x + 2]), tree)
  packed = jax.vmap(lambda tree: packing.pack(tree, like))(many)
  check_equal(packing.unpack(packed, like), many)


@pytest.mark.parametrize("choice", [False, True])
def test_a_branch_gives_what_lax_gives(choice):
  tree, like = build([("float32", [2]), ("int32", []), None, ("float32", [])])

  def true_fn(tree):
    return [jax.tree.map(lambda y: y + 1, t) for t in tree]

  def false_fn(tree):
    return tree

  found = jax.jit(
    lambda choice: packing.cond(choice, true_fn, false_fn, tree, like)
  )(choice)
  check_equal(found, lax.cond(choice, true_fn, false_fn, tree))


@pytest.mark.parametrize(
  "options",
  [
    {"dtype": "float32"},
    {"dtype": "bfloat16"},
    {"dtype": "complex64"},
    {"correction_weight": 0.5},
    {"forecaster": FORECASTERS.momentum(), "horizon": HORIZONS.fixed(2)},
    {"forecaster": FORECASTERS.holt()},
    {"forecaster": FORECASTERS.trend()},
    {"horizon": HORIZONS.adaptive(max_error=None)},
    {"horizon": HORIZONS.warmup(1, HORIZONS.adaptive())},
  ],
  ids=lambda options: ", ".join(options),
)
def test_statistics_are_read_where_they_stand(options):
  """Of every forecaster and horizon, against the state taken out whole."""
  options = dict(options)
  dtype = options.pop("dtype", "float32")
  tx = optax_predict.accelerate(optax.sgd(0.05), **options)
  x = jnp.linspace(1.0, 2.0, 6).astype(dtype)
  state, update = tx.init(x), jax.jit(tx.update)
  for _ in range(4):
    updates, state = update(x, state, x)
    x = optax.apply_updates(x, updates)
  parts = predictor.build_parts(
    options.get("forecaster"),
    options.get("horizon"),
    options.get("correction_weight", 0.0),
    None,
  )
  like = initial.shape_state(parts, x)
  wanted = predict_state.get_stats(packing.unpack(state.predictor, like))
  check_equal(optax_predict.get_stats(state), wanted)
  assert wanted.computed_steps == 4
  check_equal(optax_predict.reset(state).predictor, tx.init(x).predictor)


def test_the_predictor_is_few_arrays_however_many_the_parameters_are():
  def count(leaves):
    params = {f"layer{i}": jnp.ones([3, 2]) for i in range(leaves)}
    init = optax_predict.accelerate(optax.sgd(0.1)).init
    return len(jax.tree.leaves(jax.eval_shape(init, params)))

  # Ten of history, the last gradient, two places, integers and numbers.
  assert [count(n) for n in (1, 5, 50)] == [15, 15, 15]


def test_what_another_configuration_left_is_refused():
  x = jnp.ones(3)
  build_tx = functools.partial(optax_predict.accelerate, optax.sgd(0.1))
  for other, forecaster in (
    (FORECASTERS.secant(4), None),
    (
      FORECASTERS.momentum(history_size=2),
      FORECASTERS.momentum(history_size=3),
    ),
  ):
    state = build_tx(other).init(x)
    with pytest.raises(ValueError, match="another forecaster, memory or hor"):
      build_tx(forecaster).update(x, state, x)
  with pytest.raises(ValueError, match="parameters like"):
    build_tx().update(jnp.ones(4), build_tx().init(x), jnp.ones(4))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_map_params_sees_parameters_of_any_precision(dtype):
  with helpers.x64(dtype == "float64"):
    tx = optax_predict.accelerate(optax.adam(0.1))
    state = tx.init({"a": jnp.ones(3, dtype), "b": jnp.ones([2, 2], dtype)})
    names = {"a": "a", "b": "b"}
    found = optax.tree.map_params(tx, lambda _, name: name, state, names)
  kept = jax.tree.leaves(
    found.predictor.trees, is_leaf=lambda x: isinstance(x, dict)
  )
  # The last gradient, ten vectors, and where a window and a way back began.
  assert kept == 13 * [names]


def of_its_own():
  """A forecaster of the last gradient, with all sorts of things beside it."""

  def init(params, dtype):
    del dtype
    leaves = jax.tree.leaves(params)
    return {
      "last": jax.tree.map(jnp.zeros_like, params),
      "sizes": [jnp.zeros([]) for _ in leaves],
      "all": jnp.concatenate([jnp.zeros(x.size) for x in leaves]),
      "seen": jnp.zeros([2], bool),
      "key": jax.random.key(0),
    }

  def observe(gradients, history, motion, error):
    del motion, error
    leaves = jax.tree.leaves(gradients)
    return history | {
      "last": gradients,
      "sizes": [jnp.linalg.norm(x) for x in leaves],
      "all": jnp.concatenate([x.ravel() for x in leaves]),
      "seen": jnp.ones([2], bool),
    }

  def predict(history, motion):
    del motion
    return optax_predict.Forecast(history["last"])

  return optax_predict.Forecaster(init, observe, predict, history_size=1)


@pytest.mark.parametrize("leaves", [1, 2, 6])
def test_a_history_of_a_users_own_stands_alone(leaves):
  horizon = HORIZONS.fixed(1, min_correlation=-1)
  tx = optax_predict.accelerate(optax.sgd(0.1), of_its_own(), horizon)
  params = {f"layer{i}": jnp.full([2], 1.0 + i) for i in range(leaves)}
  state = tx.init(params)
  for _ in range(3):
    updates, state = tx.update(params, state, params)
  # The step of the true gradient, and one forecast like it.
  for name, update in updates.items():
    np.testing.assert_allclose(update, -0.2 * params[name], rtol=1e-6)
