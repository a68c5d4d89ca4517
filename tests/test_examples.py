"""The examples run, and what they say of themselves is true."""

from flax import nnx
import jax
import pytest

from examples import linen_convnet
from examples import nnx_convnet
import optax_predict
import optax_predict.nnx
from tests import helpers

STEPS = 20
ARGS = ["--steps", str(STEPS), "--seed", "0"]


@pytest.fixture(scope="module")
def linen_run():
  return linen_convnet.main(ARGS)


@pytest.fixture(scope="module")
def nnx_run():
  return nnx_convnet.main(ARGS)


def check_run(losses, stats):
  assert len(losses) == STEPS == int(stats.computed_steps)
  assert losses[-1] < 0.5 * losses[0]
  assert int(stats.predicted_steps) > STEPS / 2


def test_linen_learns_and_predicts(linen_run):
  state, losses = linen_run
  check_run(losses, optax_predict.get_stats(state.opt_state))


def test_nnx_learns_and_predicts(nnx_run):
  _, optimizer, losses = nnx_run
  check_run(losses, optax_predict.nnx.get_stats(optimizer))


def test_linen_statistics_move_at_true_gradients_only(linen_run):
  state, _ = linen_run
  (images, labels), _ = linen_convnet.load_digits()
  before = optax_predict.get_stats(state.opt_state).predicted_steps

  @jax.jit
  def one_forward_pass(state):
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    rngs = {"dropout": state.dropout_key}
    return state.apply_fn(
      variables, images, train=True, mutable=["batch_stats"], rngs=rngs
    )[1]["batch_stats"]

  for _ in range(5):
    wanted = one_forward_pass(state)
    state, _, _ = linen_convnet.train_step(state, images, labels)
    helpers.assert_close(state.batch_stats, wanted, scale=10)
  predicted = optax_predict.get_stats(state.opt_state).predicted_steps - before
  assert int(predicted) > 0


def test_nnx_statistics_move_at_true_gradients_only(nnx_run):
  model, optimizer, _ = nnx_run
  (images, labels), _ = nnx_convnet.load_digits()
  before = optax_predict.nnx.get_stats(optimizer).predicted_steps

  @nnx.jit
  def one_forward_pass(model):
    model(images)

  for _ in range(5):
    wanted = nnx.clone(model)
    one_forward_pass(wanted)
    nnx_convnet.train_step(model, optimizer, images, labels)
    for got, want in (
      (model.norm.mean, wanted.norm.mean),
      (model.norm.var, wanted.norm.var),
      (model.dropout.rngs.count, wanted.dropout.rngs.count),
    ):
      helpers.assert_close(got[...], want[...], scale=10)
  predicted = optax_predict.nnx.get_stats(optimizer).predicted_steps - before
  assert int(predicted) > 0
