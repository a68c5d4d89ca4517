"""The report on a run, against NumPy and against what must hold."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from optax_predict import forecasters
from optax_predict import horizons
from optax_predict import predictability
from optax_predict.diagnostics import report

SCALES = np.logspace(-2, 0, 5).astype(np.float32)
STALE = {"stale": forecasters.momentum(momentum=0.0)}


def quadratic(x):
  return 0.5 * jnp.sum(SCALES * x["w"] ** 2)


def noisy(x, batch):
  return 0.5 * jnp.sum(SCALES * (x["w"] - batch) ** 2)


START = {"w": jnp.linspace(0.5, 1.5, 5)}


def score(errors, every):
  steps = every * np.arange(2, 2 + len(errors))
  return predictability.Score(steps, np.array(errors), np.ones(len(errors)))


@pytest.mark.parametrize(
  "optimizer", [optax.sgd(0.7, momentum=0.9), optax.adam(0.1)]
)
def test_run_is_the_optimizers_own(optimizer):
  value_and_grad = jax.jit(jax.value_and_grad(noisy))

  @jax.jit
  def apply(grads, state, params):
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  batches = list(np.random.default_rng(0).normal(size=(12, 5)))
  batches = [jnp.asarray(b, jnp.float32) for b in batches]
  report = predictability.measure(
    noisy, START, optimizer, 12, batches=batches, forecasters=STALE
  )
  params, state, losses = START, optimizer.init(START), []
  for batch in batches:
    loss, grads = value_and_grad(params, batch)
    params, state = apply(grads, state, params)
    losses.append(float(loss))
  same = np.testing.assert_array_equal
  jax.tree.map(same, report.params, params)
  jax.tree.map(same, report.opt_state, state)
  same(report.losses, losses)


def test_scores_equal_numpy():
  rng = np.random.default_rng(1)
  xs, gs = rng.normal(size=(2, 14, 5)).astype(np.float32)
  mu, norm = 0.5, np.linalg.norm
  report = predictability.backtest(
    zip(xs, gs),
    forecasters={"momentum": forecasters.momentum(momentum=mu)},
    horizons=(0, 2, 5),
  )
  assert report.steps == 14
  # Six steps apart there is no third gradient and a score: 0, 6, 12.
  assert list(report.scores["momentum"]) == [0, 2, 5]
  for h, found in report.scores["momentum"].items():
    shown = gs[:: h + 1]
    steps, errors, cosines = [], [], []
    for i in range(2, len(shown)):
      forecast = shown[i - 1] + mu * (shown[i - 1] - shown[i - 2])
      scale = np.sqrt(norm(shown[i]) * norm(shown[i - 1]))
      steps.append(i * (h + 1))
      errors.append(norm(forecast - shown[i]) / scale)
      cosines.append(forecast @ shown[i] / norm(forecast) / norm(shown[i]))
    np.testing.assert_array_equal(found.steps, steps)
    np.testing.assert_allclose(found.errors, errors, rtol=1e-5)
    np.testing.assert_allclose(found.correlations, cosines, rtol=1e-4)
    assert report.error("momentum", h) == pytest.approx(np.median(errors))


def test_forecaster_is_told_where_the_run_alone_would_be():
  seen = []

  def init(params, dtype):
    return jnp.zeros([])

  def observe(gradients, history, motion, error):
    jax.debug.callback(
      lambda *m: seen.append([float(np.sum(x)) for x in m]),
      motion.steps,
      motion.displacement,
      motion.distance,
    )
    return history

  def predict(history, motion):
    return optax_predict.Forecast(jnp.zeros(1))

  probe = optax_predict.Forecaster(init, observe, predict, 1, needs_params=True)
  xs = np.arange(12.0, dtype=np.float32)[:, None] ** 2
  predictability.backtest(
    zip(xs, xs), forecasters={"probe": probe}, horizons=(3,)
  )
  jax.effects_barrier()
  assert seen[1:] == [[4, 16, 16], [4, 48, 48]]


def test_expectation_of_perfect_forecasts_grows_its_windows():
  scores = {"s": {h: score([1e-6] * 40, h + 1) for h in (0, 1, 2, 4, 8, 16)}}
  found = predictability.Report(scores, steps=100, rtol=0.6).expect()
  # True gradients at 0 and 1; k + 1 grows by 64 at the first that is scored, and
  # windows are at most as long as the longest that was measured.
  places, k = [0], 0
  while places[-1] + k + 1 < 100:
    places.append(places[-1] + k + 1)
    k = min(64 * (k + 1) - 1, 16)
  assert found.saving == pytest.approx(1 - len(places) / 100)
  assert found.horizon == pytest.approx(100 / len(places) - 1)


def test_expectation_is_the_adaptive_horizons_fixed_point():
  # Errors that meet the balance at 4 steps: windows end up at 4.
  errors = {h: 0.486 * ((h + 1) / 5) ** 2 for h in (0, 1, 2, 4, 8, 16)}
  scores = {"s": {h: score([e] * 300, h + 1) for h, e in errors.items()}}
  found = predictability.Report(scores, steps=2000, rtol=0.6).expect("s")
  assert 3.5 < found.horizon < 4.5


@pytest.mark.parametrize("rtol", [0.3, 0.6])
def test_balance_is_where_a_window_keeps_its_length(rtol):
  horizon = horizons.adaptive(rtol)

  def length_after(relative_error):
    one = jnp.int32(1)
    error = optax_predict.ForecastError(
      relative_error, jnp.float32(1), one, one, jnp.int32(0)
    )
    state = horizon.init()._replace(length=jnp.float32(7))
    return float(horizon.update(error, state)[1].length)

  at = jnp.float32(report.balance(rtol))
  assert length_after(at) == pytest.approx(7, rel=1e-5)
  assert length_after(1.1 * at) < 7 < length_after(0.9 * at)


def test_poor_forecasts_are_expected_to_save_nothing():
  scores = {"s": {h: score([1.4] * 9, h + 1) for h in (0, 1, 2)}}
  # Long enough for the horizon to rest, and to wake up.
  report = predictability.Report(scores, steps=200, rtol=0.6)
  assert report.expect().saving == 0
  assert "stay off or nearly so" in str(report)
  assert not report.is_noisy
  noisy_report = report._replace(noise=0.9)
  assert noisy_report.is_noisy
  assert "Noise dominates at this batch size" in str(noisy_report)


def test_noise_is_the_share_that_batches_disagree_on():
  # g = signal + noise of known size at a point that does not move.
  rng = np.random.default_rng(2)
  signal = np.zeros(400)
  signal[0] = 3.0
  for size, expected in ((0.0, 0.0), (4.0, 0.8)):
    noise = rng.normal(size=(40, 400)) * size / 20
    report = predictability.measure(
      lambda x, g: jnp.vdot(x, g),
      jnp.zeros(400),
      optax.sgd(0.0),
      40,
      batches=[jnp.asarray(signal + n, jnp.float32) for n in noise],
      forecasters=STALE,
      horizons=(0,),
    )
    # |noise| / |g| = 4 / sqrt(9 + 16).
    assert report.noise == pytest.approx(expected, abs=0.05)
    assert report.is_noisy == (size > 0)


def test_table_and_words_of_a_smooth_run():
  secant = {"secant": forecasters.secant(memory=2)}
  report = predictability.measure(
    quadratic, START, optax.sgd(0.5), 20, forecasters=secant
  )
  text = str(report)
  rows = [line.split() for line in text.splitlines()[4:] if line]
  assert [row[0] for row in rows[:5]] == ["0", "1", "2", "4", "8"]
  assert [row[-1] for row in rows[:5]] == ["18", "8", "5", "2", "1"]
  assert text.endswith(
    "Of 20 gradients only: measure 30 or more to rely on it."
  )
  found = report.expect()
  assert 0 < found.saving < 1 and found.forecaster == "secant"
  assert f"roughly {5 * round(20 * found.saving)} % fewer" in text


def test_a_run_that_left_the_finite_numbers_is_still_reported():
  """`secant` leaves out what `momentum`, which sees no parameters, can use."""
  steps = np.arange(12, dtype=np.float32)
  params = [np.float32([np.inf if i > 4 else i, i]) for i in steps]
  gradients = [np.float32([1, 2]) + i for i in steps]
  given = {
    "secant": forecasters.secant(memory=2),
    "momentum": forecasters.momentum(),
  }
  report = predictability.backtest(
    zip(params, gradients), forecasters=given, horizons=(0, 1, 2)
  )
  assert set(report.scores["secant"]) < set(report.scores["momentum"])
  rows = [line.split() for line in str(report).splitlines()]
  assert ["2", "-"] in [row[:2] for row in rows]
  assert report.plot() is not None


def test_gradients_that_are_not_finite_are_not_scored():
  gs = np.ones([10, 2], np.float32)
  gs[6] = np.nan
  report = predictability.backtest(
    zip(gs, gs), forecasters=STALE, horizons=(0,)
  )
  np.testing.assert_array_equal(
    report.scores["stale"][0].steps, [2, 3, 4, 5, 7, 8, 9]
  )


def test_time_goes_on_where_a_gradient_is_left_out():
  """Linear in time, what comes after it is still predicted exactly."""
  gs = np.linspace(1, 2, 10, dtype=np.float32)[:, None]
  gs[6] = np.nan
  report = predictability.backtest(
    zip(gs, gs), forecasters={"line": forecasters.trend(0.0)}, horizons=(0,)
  )
  np.testing.assert_allclose(report.scores["line"][0].errors, 0, atol=1e-5)


def test_complex_gradients_point_uphill():
  scales = jnp.array([0.2, 0.5, 1.0])

  def loss(z):
    return 0.5 * jnp.sum(scales * jnp.abs(z) ** 2)

  report = predictability.measure(
    loss, jnp.full(3, 1 + 1j, jnp.complex64), optax.sgd(0.5), steps=12
  )
  # Each part decays by 1 - rate x scale a step.
  left = (1 - 0.5 * np.asarray(scales)) ** (2 * np.arange(12)[:, None])
  np.testing.assert_allclose(report.losses, left @ scales, rtol=1e-5)


@pytest.mark.parametrize(
  "arguments, message",
  [
    (dict(horizons=4), "horizons must be a sequence, got 4"),
    (dict(steps=2), "steps must be at least 3, got 2"),
    (dict(horizons=(2, 1)), r"ascending, got \(2, 1\)"),
    (dict(horizons=()), r"ascending, got \(\)"),
    (dict(horizons=(-1,)), "a horizon must be at least 0, got -1"),
    (dict(horizons=(9,)), "8 steps, too few .* at least 21"),
    (dict(rtol=1.5), "rtol must be in"),
    (dict(batches=[1.0]), "batches ended after 1 of 8 steps"),
    (
      dict(optimizer=optax_predict.predict_gradients(STALE["stale"])),
      "has predict_gradients in it",
    ),
  ],
)
def test_wrong_arguments_say_what_to_do(arguments, message):
  arguments = dict(steps=8, optimizer=optax.sgd(0.1)) | arguments
  loss = noisy if "batches" in arguments else quadratic
  with pytest.raises(ValueError, match=message):
    predictability.measure(loss, START, **(dict(forecasters=STALE) | arguments))


@pytest.mark.parametrize(
  "given", [STALE["stale"], {}, {"x": "secant"}, ["secant"]]
)
def test_forecasters_must_be_named(given):
  with pytest.raises(TypeError, match="forecasters"):
    predictability.backtest([], forecasters=given)
