"""What the compiled program holds: copies, platforms."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

import optax_predict

# A size no other array in the program has.
SIZE = 10_007


def params(leaves):
  return {f"leaf{i}": jnp.ones(SIZE) for i in range(leaves)}


def optimizer(forecaster, horizon=None):
  return optax.chain(
    optax_predict.predict_gradients(forecaster, horizon), optax.adam(1e-3)
  )


def compile_fast_forward(tx, leaves):
  p = params(leaves)
  return (
    jax.jit(
      lambda p, s: optax_predict.fast_forward(tx, p, s),
      donate_argnums=(0, 1),
    )
    .lower(p, tx.init(p))
    .compile()
  )


def copies_in_loop(text):
  """Copies of parameter size in every computation but the entry."""
  assert " while(" in text and f"f32[{SIZE}]" in text
  is_entry, copies = False, 0
  for line in text.splitlines():
    if line and not line[0].isspace():
      is_entry = line.startswith("ENTRY")
    is_copy = re.search(rf"= f32\[{SIZE}\]\S* copy\(", line)
    copies += bool(is_copy) and not is_entry
  return copies


@pytest.mark.parametrize("leaves", [1, 10])
@pytest.mark.parametrize(
  "horizon, copies, loops",
  [
    # The forecast, which the next step may use again.
    (optax_predict.horizons.adaptive(), 1, 1),
    # Where four steps are one pass: both of Adam's moments, which the update of
    # the parameters reads as they were.
    # A loop of its own takes what is left.
    (optax_predict.horizons.fixed(), 2, 2),
  ],
)
def test_momentum_copies_hardly_anything(leaves, horizon, copies, loops):
  tx = optimizer(optax_predict.forecasters.momentum(), horizon)
  compiled = compile_fast_forward(tx, leaves)
  text = compiled.as_text()
  assert copies_in_loop(text) <= copies * leaves
  assert len(re.findall(r" while\(", text)) == loops


@pytest.mark.parametrize("leaves", [1, 4])
def test_secant_copies_no_history_on_predicted_steps(leaves):
  tx = optimizer(optax_predict.forecasters.secant(memory=6))
  compiled = compile_fast_forward(tx, leaves)
  # Parameters and forecast, at most; not the 6 directions nor Adam's moments.
  assert copies_in_loop(compiled.as_text()) <= 2 * leaves + 1
  # The forecast that steps share, the next one, and what XLA keeps of the updates.
  temporary = compiled.memory_analysis().temp_size_in_bytes
  assert temporary <= 3.1 * 4 * SIZE * leaves


def compile_update(tx, leaves):
  p = params(leaves)

  def step(gradients, p, s):
    updates, s = tx.update(gradients, s, p)
    return optax.apply_updates(p, updates), s

  return jax.jit(step, donate_argnums=(1, 2)).lower(p, p, tx.init(p)).compile()


@pytest.mark.parametrize("leaves", [1, 4])
@pytest.mark.parametrize("name", ["momentum", "holt"])
def test_a_true_gradient_is_recorded_without_a_copy(name, leaves):
  forecaster = getattr(optax_predict.forecasters, name)()
  compiled = compile_update(optimizer(forecaster), leaves)
  copies = re.findall(rf"= f32\[{SIZE}\]\S* copy\(", compiled.as_text())
  # The gradient once, at most, which is passed on and kept.
  assert len(copies) <= leaves


@pytest.mark.parametrize("directions", [8, 16])
def test_a_true_gradient_is_recorded_without_a_copy_of_the_history(directions):
  tx = optimizer(optax_predict.forecasters.secant(8, directions=directions))
  compiled = compile_update(tx, 1)
  # A copy of the directions would be as many more.
  assert compiled.memory_analysis().temp_size_in_bytes <= 4.2 * 4 * SIZE


@pytest.mark.parametrize(
  "base, start",
  # Where a window begins is kept: parameters, and what the base has.
  [(optax.sgd(1e-3), 1), (optax.sgd(1e-3, 0.9), 2), (optax.adam(1e-3), 3)],
)
def test_an_accelerated_step_copies_where_a_window_begins(base, start):
  tx = optax_predict.accelerate(base)
  p = jnp.ones(SIZE)

  def step(p, s, gradients):
    updates, s = tx.update(gradients, s, p)
    return optax.apply_updates(p, updates), s

  compiled = jax.jit(step, donate_argnums=(0, 1)).lower(p, tx.init(p), p)
  text = compiled.compile().as_text()
  copies = re.findall(rf"= f32\[{SIZE}\]\S* copy\(", text)
  # Not the history, and nothing where no window opens.
  assert len(copies) <= start
  entry = text[text.index("\nENTRY") :]
  assert not re.search(rf"= f32\[{SIZE}\]\S* copy\(", entry)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("form", ["fast_forward", "value_and_grad"])
def test_whole_step_exports(platform, form):
  tx = optimizer(optax_predict.forecasters.secant(2))

  def loss(p):
    return sum(jnp.sum(jnp.tanh(x) ** 2) for x in jax.tree.leaves(p))

  def step(p, s):
    if form == "fast_forward":
      updates, s = tx.update(jax.grad(loss)(p), s, p)
      p = optax.apply_updates(p, updates)
      return optax_predict.fast_forward(tx, p, s)
    _, gradients = optax_predict.value_and_grad(loss)(p, state=s)
    updates, s = tx.update(gradients, s, p)
    return optax.apply_updates(p, updates), s

  p = params(2)
  exported = jax.export.export(jax.jit(step), platforms=[platform])(
    p, tx.init(p)
  )
  assert exported.platforms == (platform,)
  assert len(exported.mlir_module()) > 1000


def products_of_matrices(jaxpr):
  """Every product of matrices in a traced program, however deep."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      yield eqn
    for value in jax.tree.leaves(
      list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")
    ):
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        yield from products_of_matrices(inner)


@pytest.mark.parametrize("base", [optax.adam(1e-3), optax.sgd(1e-3)])
def test_small_matrices_are_multiplied_in_full_precision(base):
  """A TPU would do it in bfloat16, a GPU in TensorFloat-32."""
  x = jnp.ones(2**16)
  tx = optax_predict.accelerate(base)
  program = jax.make_jaxpr(tx.update)(x, tx.init(x), x)
  found = list(products_of_matrices(program.jaxpr))
  assert len(found) > 30
  highest = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
  assert {eqn.params["precision"] for eqn in found} == {highest}
