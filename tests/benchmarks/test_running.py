import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import tasks
from benchmarks.methods import opponents
from benchmarks.methods import running
from benchmarks.methods import searches
from benchmarks.methods import self_scaled
from benchmarks.methods import targets
from benchmarks.methods import tuning
import optax_predict

_SCALES = np.array([1.0, 0.3, 0.1], np.float32)


def _problem(budget=30, steep=1.0):
  def loss(x):
    return 0.5 * steep * jnp.sum(_SCALES * x["a"] ** 2)

  def init(seed):
    return {"a": jnp.ones(3) * (1 + seed)}

  return running.Problem(
    tasks.Task("tiny", "tests", init, loss, budget, "tuning")
  )


@pytest.fixture(name="problem", scope="module")
def _shared_problem():
  return _problem()


def test_gradient_descent_by_hand(problem):
  run = running.run(problem, "sgd", 0.5, 0)
  x, losses = np.ones(3), []
  for _ in range(30):
    losses.append(0.5 * np.sum(_SCALES * x**2))
    x = x - 0.5 * _SCALES * x
  np.testing.assert_allclose(run.losses, losses, rtol=1e-5)
  assert run.predicted == 0


@pytest.mark.parametrize(
  "name", ["sgd+predict", "adam+original", "sgd+accelerate"]
)
def test_loop_and_state_agree_on_true_gradients(problem, name):
  run = running.run(problem, name, 0.05, 0)
  assert len(run.losses) == 30
  assert run.predicted > 0


def test_a_disagreement_between_the_counters_is_an_error(problem, monkeypatch):
  stats = optax_predict.get_stats

  def one_more(state):
    found = stats(state)
    return found._replace(computed_steps=found.computed_steps + 1)

  monkeypatch.setattr(optax_predict, "get_stats", one_more)
  with pytest.raises(RuntimeError, match="counts 31 true gradients"):
    running.run(problem, "sgd+predict", 0.05, 0)


def test_flat_and_padded_is_the_same_as_the_tree_itself(problem):
  tx = opponents.METHODS["sgd+predict"].make(0.05)
  params = problem.task.init(0)
  state, losses = tx.init(params), []

  @jax.jit
  def step(params, state):
    loss, grads = jax.value_and_grad(problem.task.loss)(params)
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    return *optax_predict.fast_forward(tx, params, state), loss

  for _ in range(10):
    params, state, loss = step(params, state)
    losses.append(float(loss))
  run = running.run(problem, "sgd+predict", 0.05, 0)
  np.testing.assert_allclose(run.losses[:6], losses[:6], rtol=1e-4)


def test_a_diverged_run_is_a_miss_and_stops():
  run = running.run(_problem(400), "sgd", 1e3, 0)
  assert len(run.losses) < 400
  assert targets.evaluations(run.losses, 0.5 * run.losses[0]) == math.inf


def test_stale_reuse_repeats_the_gradient(problem):
  run = running.run(problem, "sgd+stale", 0.02, 0)
  plain = running.run(problem, "sgd", 0.02 * (opponents.REPEATS + 1), 0)
  np.testing.assert_allclose(run.losses, plain.losses, rtol=1e-5)
  assert run.predicted == 30 * opponents.REPEATS


@pytest.mark.parametrize(
  "search", searches.METHODS.values(), ids=searches.METHODS
)
def test_line_searches_count_every_evaluation(search, monkeypatch):
  problem = _problem()
  calls = []
  loss = problem.loss

  def counted(x):
    jax.debug.callback(lambda: calls.append(1))
    return loss(x)

  monkeypatch.setattr(problem, "loss", counted)
  problem.value_and_grad = jax.jit(jax.value_and_grad(counted))
  run = search(problem, 0)
  jax.effects_barrier()
  assert len(calls) == len(run.losses) + run.forward_only
  assert targets.lowest(run.losses) < 1e-3 * run.losses[0]
  assert len(run.losses) <= problem.task.budget


def test_a_rejected_trial_is_a_pass_forward_alone():
  """With a step of 1 the first trials go uphill on a steep quadratic."""
  problem = _problem(steep=100.0)
  run = searches.METHODS["optimistix_cg"](problem, 0)
  assert run.forward_only > 5
  assert targets.lowest(run.losses) < 1e-3 * run.losses[0]
  assert run.losses[:5] == sorted(run.losses[:5], reverse=True)


def test_the_searches_in_the_table_are_those_that_can_be_run():
  assert tuple(searches.METHODS) == opponents.LINE_SEARCH
  assert set(searches.MOST_UNKNOWNS) < set(searches.METHODS)


def test_dense_methods_leave_large_tasks_out(problem, monkeypatch):
  assert searches.applies("ssbroyden", problem)
  monkeypatch.setattr(problem, "size", 5000)
  assert not searches.applies("ssbroyden", problem)
  assert searches.applies("optax_lbfgs", problem)


@pytest.mark.parametrize("first", [True, False])
def test_self_scaled_broyden_keeps_the_secant_condition(first):
  rng = np.random.default_rng(0)
  root = rng.normal(size=(6, 6))
  inverse = root @ root.T + np.eye(6)
  s, y = rng.normal(size=(2, 6))
  y *= np.sign(y @ s)
  sbs = s @ np.linalg.solve(inverse, s)
  new = self_scaled.updated(inverse, s, y, sbs, first)
  np.testing.assert_allclose(new @ y, s, rtol=1e-6)
  np.testing.assert_allclose(new, new.T, rtol=1e-6)
  assert np.linalg.eigvalsh(new).min() > 0


def test_the_scale_and_the_member_by_hand():
  # b = 1 is no scale: theta = 0, which is BFGS.
  tau, phi = self_scaled.choose(b=1.0, h=2.0, size=3, first=False)
  assert (tau, phi) == (pytest.approx(1.0), pytest.approx(1.0))
  tau, phi = self_scaled.choose(b=4.0, h=0.5, size=3, first=False)
  low = 0.5 * (1 - math.sqrt(0.5))
  theta = max(low - 1, -0.75)
  assert phi == pytest.approx((1 - theta) / (1 + theta))
  assert tau == pytest.approx(min(0.25 * (1 + theta) ** -0.5, 1 + theta))
  tau, _ = self_scaled.choose(b=4.0, h=0.5, size=3, first=True)
  assert tau == pytest.approx(0.5 / (1 + theta))


def test_targets_after_more_and_wild():
  assert targets.level(11.0, 1.0, 0.1) == 2.0
  assert targets.evaluations([11.0, 3.0, 2.0, 1.0], 2.0) == 3
  assert targets.evaluations([11.0, math.inf], 2.0) == math.inf
  assert targets.lowest([3.0, math.nan, 2.0, math.inf]) == 2.0
  assert targets.is_resolved(1.0, 0.0, 1e-5)
  assert not targets.is_resolved(1.001, 1.0, 1e-5)


def _parabola(best_index):
  def evaluate(k):
    count = 5 + abs(k - best_index)
    losses = [1.0] * (count - 1) + [0.0]
    return running.Run(tuning.rate_of(k), 0, losses)

  return evaluate


@pytest.mark.parametrize("best_index", [-23, 0, 3, 18])
def test_search_extends_until_the_best_rate_is_inside(best_index):
  grid = tuning.search(_parabola(best_index), guess=0, best=0.0)
  for tau in targets.TAUS:
    assert tuning.best_k(grid, 0.0, tau) == best_index
  assert {best_index - 1, best_index + 1} <= grid.keys()
  assert tuning.rate_of(4) == pytest.approx(10.0)


def test_the_first_guess_is_the_reciprocal_curvature(problem):
  assert tuning.first_guess(problem, "sgd") == 0
  assert tuning.rate_of(tuning.first_guess(problem, "adam")) == 0.01
