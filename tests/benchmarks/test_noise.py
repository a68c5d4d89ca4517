"""Under noise: candidates, intervals, the two stages and the page."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import quotes
from benchmarks.noise import candidates
from benchmarks.noise import cells
from benchmarks.noise import intervals
from benchmarks.noise import page
from benchmarks.noise import plan
from benchmarks.noise import running
from benchmarks.noise import screening
from benchmarks.noise import tasks
from benchmarks.noise import verdicts

_ROOT = pathlib.Path(__file__).parents[2]
_NOISE = _ROOT / "benchmarks" / "results" / "noise.json"


def walk(tx, gradients, start=0.0):
  """States and parameters after each of some gradients."""
  params = {"x": jnp.asarray(start)}
  state = tx.init(params)
  for gradient in gradients:
    updates, state = tx.update({"x": jnp.asarray(gradient)}, state, params)
    params = optax.apply_updates(params, updates)
    yield state, params["x"]


def outputs(link, gradients):
  """What a link makes of gradients, at parameters 0, 1, 2, ..."""
  state, found = link.init({"x": jnp.zeros_like(gradients[0])}), []
  for i, gradient in enumerate(gradients):
    at = {"x": jnp.full_like(gradient, i)}
    updates, state = link.update({"x": gradient}, state, at)
    found.append(updates["x"])
  return np.array(found)


def test_correction_by_hand():
  gradients = jnp.array([[1.0, 2.0], [2.0, 0.0]])
  found = outputs(candidates.correct(0.5), gradients)
  np.testing.assert_allclose(found, [[1.0, 2.0], [2.5, -1.0]])
  found = outputs(candidates.correct(None), gradients)
  c = 2.0 / (0.9 * 5.0 + 4.0)
  np.testing.assert_allclose(found[1], [2 + c, -2 * c], rtol=1e-6)


def test_correction_online_is_from_zero_to_one():
  same = outputs(candidates.correct(None, 0.0), jnp.array([1.0, 2.0, 2.0, 3.0]))
  np.testing.assert_allclose(same, [1.0, 2.5, 2.0, 3 + 6 / 9], rtol=1e-6)
  opposite = outputs(candidates.correct(None), jnp.array([1.0, -1.0]))
  np.testing.assert_allclose(opposite, [1.0, -1.0])


def test_sgd_with_a_correction_of_its_momentum_is_nesterovs():
  gradients = [3.0, -1.0, 2.0, 0.5]
  momentum = 0.9
  corrected = optax.chain(
    candidates.correct(momentum), optax.sgd(0.1, momentum=momentum)
  )
  nesterov = optax.sgd(0.1, momentum=momentum, nesterov=True)
  # The first gradient has none before it, so it is not corrected.
  ours = [float(x) for _, x in walk(corrected, [0.0, *gradients])]
  theirs = [float(x) for _, x in walk(nesterov, [0.0, *gradients])]
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_averages_by_hand():
  tx = candidates.average(optax.sgd(1.0), [2.0])
  found = [float(s.averages[0]["x"]) for s, _ in walk(tx, [-1.0] * 3)]
  assert found == [1.0, 1.5, 2.25]


def test_primal_averaging_by_hand():
  tx = candidates.primal_average(optax.sgd(1.0), 0.5, 0.5)
  found = [(float(s.smooth["x"]), float(y)) for s, y in walk(tx, [-1.0] * 2)]
  assert found == [(0.5, 0.75), (1.25, 1.625)]


def test_outer_nesterov_by_hand():
  tx = candidates.outer_nesterov(optax.sgd(1.0), 2, 0.5, 0.5)
  found = [float(x) for _, x in walk(tx, [-1.0] * 4)]
  assert found == [1.0, 1.5, 2.5, 3.25]


def test_lookahead_is_optaxs():
  both = optax.lookahead(optax.sgd(1.0), 2, 0.5)
  pair = optax.LookaheadParams.init_synced({"x": jnp.zeros([])})
  state = both.init(pair)
  ours = list(walk(candidates.lookahead(optax.sgd(1.0), 2, 0.5), [-1.0] * 5))
  for found, fast in ours:
    gradient = {"x": jnp.asarray(-1.0)}
    updates, state = both.update(gradient, state, pair)
    pair = optax.apply_updates(pair, updates)
    assert found.slow["x"] == pair.slow["x"]
    assert fast == pair.fast["x"]


def test_transport_has_the_gradient_where_the_parameters_are():
  tx = candidates.transport(optax.sgd(0.1), 0.9)
  params = jnp.asarray(2.0)
  state = tx.init(params)
  for _ in range(20):
    before = state.params
    updates, state = tx.update(3.0 * params, state, params)
    params = params + updates
    np.testing.assert_allclose(state.gradient, 3.0 * before, atol=1e-5)


def test_secant_variate_by_hand():
  # Curvature is what was learnt before: none, none, then (6 - 4) / 1.
  found = outputs(candidates.secant_variate(0.5), jnp.array([4.0, 6.0, 9.0]))
  np.testing.assert_allclose(found, [4.0, 5.0, (5 + 2 + 9) / 2])


@pytest.mark.parametrize("method", plan.METHODS)
def test_at_most_two_more_copies_of_the_parameters(method):
  size = 1000
  make = plan.METHODS[method].make
  init = lambda x: make(plan.base("sgd"), lambda count: 0.1, 100).init(x)  # noqa: E731
  state = jax.eval_shape(init, jnp.zeros(size))
  copies = sum(x.size for x in jax.tree.leaves(state)) / size
  # One of them is the momentum.
  assert copies < 3.1 or method == "accelerate"


def test_steps_saved_by_hand():
  lengths = (0.5, 1.0, 2.0)
  base, ours = np.array([3.0, 2.0, 1.0]), np.array([2.5, 1.5, 0.5])
  assert intervals.saved(lengths, base, base) == 0
  half = intervals.saved(lengths, ours, base)
  assert half == pytest.approx(0.5 * math.log(2))
  assert intervals.share(half) == pytest.approx(1 - 2**-0.5)
  # One that does not fall counts as a quarter as steep as the base.
  flat = intervals.saved(lengths, np.array([3.0, 3.0, 3.0]), base)
  assert flat == pytest.approx(-4 * math.log(2))


def test_the_interval_of_a_mean_is_students():
  values = np.array([1.0, 2.0, 3.0, 4.0])
  found = intervals.jackknife(lambda seeds: values[seeds].mean(), 4)
  assert found == pytest.approx((2.5, 2.5 - 2.05426, 2.5 + 2.05426), abs=1e-4)


def test_rates_warm_up_and_decay_to_zero():
  at = lambda kind, t: float(plan.shape(plan.SHAPES.index(kind), t, 100))  # noqa: E731
  for kind in plan.SHAPES:
    assert at(kind, 0) == pytest.approx(0.2)
    assert at(kind, 5) == pytest.approx(1.0)
    assert at(kind, 100) == (1.0 if kind == "constant" else 0.0)
  middle = 5 + 95 / 2
  assert at("cosine", middle) == pytest.approx(0.5)
  assert at("linear", middle) == pytest.approx(0.5)
  assert at("late", middle) == 1.0
  assert at("late", 100 - 9.5) == pytest.approx(0.5)


def test_a_row_of_a_program_is_a_plain_loop():
  """And the library rests, and all see the same batches."""
  program = running.Program("table", 8, "sgd", ("base", "accelerate"))
  rates = {"base": [0.01, 0.1], "accelerate": [0.01, 0.1]}
  steps, seeds = 6, (3, 4)
  found = program.losses(rates, "linear", seeds, steps)
  np.testing.assert_allclose(found["accelerate"], found["base"], rtol=1e-6)
  task, key = tasks.get("table"), jax.random.key(4)
  kind = plan.SHAPES.index("linear")
  tx = optax.sgd(lambda t: 0.1 * plan.shape(kind, t, steps), momentum=0.9)
  x = task.init(jax.random.fold_in(key, 0))
  state = tx.init(x)
  for t in range(steps):
    batch = task.draw(jax.random.fold_in(key, t + 1), 8)
    updates, state = tx.update(jax.grad(task.loss)(x, batch), state, x)
    x = optax.apply_updates(x, updates)
  expected = task.loss(x, task.judge)
  np.testing.assert_allclose(found["base"][1, 1], expected, rtol=1e-4)


@pytest.mark.parametrize("name", tasks.NAMES)
def test_tasks_fall_and_draw_anew(name):
  task = tasks.get(name)
  x = task.init(jax.random.key(0))
  batches = [task.draw(jax.random.key(i), 8) for i in (1, 1, 2)]
  first, again, other = [np.asarray(jax.tree.leaves(b)[0]) for b in batches]
  assert (first == again).all() and not (first == other).all()
  value, gradient = jax.jit(jax.value_and_grad(task.loss))(x, batches[0])
  assert task.loss(x - 1e-3 * gradient, batches[0]) < value


def screen_of(losses, short):
  rates = {m: [1.0, 2.0, 3.0] for m in plan.screened()}
  rows = [row for m in plan.screened() for row in plan.rows(m)]
  other = [[9.0], [9.0], [9.0]]
  full = {row: losses.get(row, other) for row in rows}
  return {"rates": rates, "losses": full, "short": short}


def test_screening_by_hand():
  losses = {
    "base": [[3.0, 1.0], [1.0, 1.0], [None, 0.1]],
    "correct_1": [[0.9, 0.9], [2.0, 2.0], [2.0, 2.0]],
  }
  screen = screen_of(losses, [[1.4, 1.4], [1.2, 1.2], [2.0, 2.0]])
  assert screening.best(screen, "base") == (1, 1.0)
  assert screening.best_rate(screen, "base") == 2.0
  # 0.2 is a factor of 1 / 0.8 in steps, so 0.1 is the root of it.
  gain = screening.gain(screen, "correct_1")
  assert gain == pytest.approx(-0.5 * math.log(0.8))
  assert screening.gain(screen, "lookahead") == pytest.approx(-math.log(2))
  flat = screen | {"short": [[0.9, 0.9]]}
  assert screening.gain(flat, "correct_1") is None
  assert list(screening.gains({"a": screen, "b": flat}, "base")) == ["a"]
  found = screening.finalists({"table-8-sgd": screen, "table-8-adamw": screen})
  assert found[: len(plan.ALWAYS)] == list(plan.ALWAYS)
  assert "correct_1" in found[-plan.FINALISTS :]
  assert len(found) == len(set(found))


def test_what_passes():
  good = verdicts.Gain(0.06, 0.01, 0.1, -0.01, 24)
  assert good.passes
  assert not good._replace(mean=0.04).passes
  assert not good._replace(low=-0.01).passes
  assert not good._replace(worst=-0.03).passes


@pytest.fixture(name="found", scope="module")
def _found():
  return json.loads(_NOISE.read_text())


def test_the_page_is_as_made_from_the_json(found):
  assert (_ROOT / "docs" / "noise.md").read_text() == page.text(found)


def test_every_candidate_has_a_line_in_what_was_tried():
  tried = (_ROOT / "docs" / "tried.md").read_text()
  for method in plan.METHODS:
    if plan.is_new(method):
      assert f"`{method}`" in tried, method


def test_results_are_of_the_plan_and_quoted(found):
  settings = {cells.label(*setting) for setting in plan.settings()}
  assert set(found["screens"]) == settings
  assert set(found["finals"]) <= settings
  quoted = quotes.published(_NOISE.parent)
  assert {"noise.passing", "noise.opponent"} <= set(quoted)


def test_the_library_rests(found):
  rest = verdicts.resting(found)
  assert rest.same >= rest.runs / 3
  assert rest.farthest < 0.02
  assert abs(rest.mean[0]) < 2e-3


def test_resting_by_hand():
  ten = lambda x: [x] * len(plan.SEEDS)  # noqa: E731
  losses = {plan.BASE: ten(1.0), plan.LIBRARY: [1.1, *ten(1.0)[1:]]}
  rest = verdicts.resting({"rests": {"a": {"losses": losses}}})
  assert (rest.same, rest.runs) == (9, 10)
  assert rest.farthest == pytest.approx(0.1)
  assert rest.mean[0] == pytest.approx(0.01)
  assert verdicts.resting({"rests": {}}) is None
