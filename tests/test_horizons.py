"""Horizons, worked out by hand."""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_predict


def error(
  relative=0.1,
  correlation=0.9,
  size=2,
  steps=1,
  stopped=0,
  growth=1.0,
  slope=0.0,
  way=0.0,
):
  return optax_predict.ForecastError(
    relative_error=jnp.float32(relative),
    correlation=jnp.float32(correlation),
    history_size=jnp.int32(size),
    window_steps=jnp.int32(steps),
    window_stopped=jnp.int32(stopped),
    growth=jnp.float32(growth),
    slope=jnp.float32(slope),
    way=jnp.float32(way),
  )


def lengths(horizon, errors):
  state = horizon.init()
  out = []
  for e in errors:
    steps, state = horizon.update(e, state)
    assert steps.dtype == jnp.int32
    out.append(int(steps))
  return out


def pattern(horizon, errors):
  """A: a true gradient, a dot: a predicted one."""
  return "".join("A" + "." * steps for steps in lengths(horizon, errors))


def test_fixed():
  horizon = optax_predict.horizons.fixed(3, min_correlation=0.5)
  assert lengths(
    horizon,
    [
      error(size=0),
      error(size=1),
      error(correlation=0.5),
      error(correlation=0.49),
      error(correlation=-1.0),
      error(correlation=1.0),
    ],
  ) == [0, 3, 3, 0, 0, 3]


def test_adaptive_grows_by_what_the_error_allows():
  # (k + 1) times 0.9 sqrt(0.8 / e), 8 times at most.
  errors = [error(size=0), *[error(0.1)] * 5]
  factor, k, wanted = 0.9 * np.sqrt(0.8 / 0.1), 0.0, [0]
  for _ in range(5):
    k = (k + 1) * factor - 1
    wanted.append(int(k))
  assert lengths(optax_predict.horizons.adaptive(), errors) == wanted
  errors = [error(size=0), *[error(0.009)] * 6]
  wanted = [0, 7, 63, 511, 4095, 4096, 4096]
  assert lengths(optax_predict.horizons.adaptive(), errors) == wanted


@pytest.mark.parametrize("e", [1e-6, 1e-3, 4e-3, 0.02, 0.07, 0.2])
def test_adaptive_starts_in_proportion_to_the_first_error(e):
  """One gradient is known: its error grows as the way does."""
  horizon = optax_predict.horizons.adaptive()
  errors = [error(size=0), error(e, size=1, steps=0)]
  by_root = min(0.9 * np.sqrt(0.8 / e), 8)
  wanted = int(max(by_root, min(0.2 / e, 64)) - 1)
  assert lengths(horizon, errors) == [0, wanted]


def test_adaptive_has_a_ceiling_where_one_is_wanted():
  horizon = optax_predict.horizons.adaptive(max_steps=12)
  errors = [error(size=0), *[error(0.1)] * 6]
  assert lengths(horizon, errors) == [0, 1, 5, 12, 12, 12, 12]


def test_adaptive_follows_the_error():
  horizon = optax_predict.horizons.adaptive(rtol=0.5)
  # (k + 1) times 0.9 sqrt(0.5 / e), from 63.
  grown = [error(0.001)] * 2
  for e in (0.3, 0.5, 1.0, 2.0):
    wanted = int(64 * 0.9 * np.sqrt(0.5 / e) - 1)
    assert lengths(horizon, [*grown, error(e)])[-1] == wanted


@pytest.mark.parametrize("max_growth", [1.0, 2.0, 9.0])
def test_adaptive_leads_as_far_as_the_error_allows(max_growth):
  horizon = optax_predict.horizons.adaptive(max_growth=max_growth)
  state = horizon.init()
  for e in (1e6, 1.0, 0.2, 0.05, 0.009, 0.0):
    # Whether or not the last window was stopped.
    _, state = horizon.update(error(e, stopped=1), state)
    earned = min(0.9 * np.sqrt(0.8 / e), 8) if e else 8
    wanted = max(earned, max_growth)
    np.testing.assert_allclose(horizon.reach(state), wanted, rtol=1e-6)


def test_adaptive_falls_to_none_and_recovers():
  horizon = optax_predict.horizons.adaptive()
  errors = [error(0.001)] * 2 + [error(1e6)] * 3 + [error(0.001)] * 2
  assert lengths(horizon, errors) == [7, 63, 11, 1, 0, 7, 63]


def test_adaptive_waits_for_a_used_window():
  horizon = optax_predict.horizons.adaptive()
  used, unused = error(0.001), error(1e6, steps=0)
  assert lengths(horizon, [used, used, unused, used]) == [7, 63, 63, 511]


def test_adaptive_does_not_grow_after_a_stopped_window():
  horizon = optax_predict.horizons.adaptive()
  good, stopped = error(0.001), error(0.001, stopped=1)
  assert lengths(horizon, [good, good, stopped]) == [7, 63, 63]


@pytest.mark.parametrize("noise", [0.95, 1.3, 2.0])
def test_adaptive_stays_off_under_noise(noise):
  horizon = optax_predict.horizons.adaptive()
  assert max(lengths(horizon, [error(noise, steps=0)] * 50)) <= 0


def trusts(horizon, errors, name="trust"):
  state, found = horizon.init(), getattr(horizon, name)
  out = [float(found(state))]
  for e in errors:
    _, state = horizon.update(e, state)
    out.append(float(found(state)))
  return out


def test_trust_is_earned_and_halved():
  good, grown, poor = error(), error(growth=1.2), error(1.3)
  no_window = error(1.3, steps=0, growth=5.0)
  found = trusts(
    optax_predict.horizons.adaptive(),
    [good, good, no_window, grown, good, poor, poor],
  )
  # From a third to all of it: 0.4 of the way up, half of the way down.
  earned = [0.0, 0.4, 0.64, 0.64, 0.32, 0.592, 0.296, 0.148]
  np.testing.assert_allclose(found, (1 + 2 * np.array(earned)) / 3, rtol=1e-6)


@pytest.mark.parametrize(
  "wrap",
  [
    lambda then: optax_predict.horizons.warmup(2, then),
    optax_predict.horizons.shorten_on_loss,
  ],
)
@pytest.mark.parametrize("name", ["trust", "reach"])
def test_wrappers_pass_trust_and_reach_on(wrap, name):
  inner = optax_predict.horizons.adaptive()
  errors = [error(e)._replace(loss=jnp.float32(1.0)) for e in (0.1, 0.2)] * 3
  found = trusts(wrap(inner), errors, name)
  skipped = found.count(found[0]) - 1
  assert found[skipped:] == trusts(inner, errors[skipped:], name)
  assert getattr(wrap(optax_predict.horizons.fixed()), name) is None


def test_a_window_that_ends_downhill_was_too_short():
  """k + 1 grows by 1.4 whatever the error; a small one lets it grow more."""
  horizon = optax_predict.horizons.adaptive()
  grown = [error(size=0), *[error(0.001)] * 2]
  assert lengths(horizon, grown)[-1] == 63
  for last, wanted in [
    (error(5.0, slope=-0.2), int(64 * 1.4 - 1)),
    (error(0.001, slope=-0.2), 511),
    (error(5.0, slope=-0.05), int(64 * 0.9 * np.sqrt(0.8 / 5) - 1)),
    (error(5.0, slope=0.2), int(64 * 0.9 * np.sqrt(0.8 / 5) - 1)),
    (error(5.0, slope=-0.2, stopped=1), int(64 * 1.4 - 1)),
    (error(0.001, slope=-0.2, growth=2.1), 0),
    # No window, nothing that was too short.
    (error(5.0, slope=-0.2, steps=0), 63),
  ]:
    assert lengths(horizon, [*grown, last])[-1] == wanted


@pytest.mark.parametrize("way", [0.0, 1.0, 31.9, 32.0, 4096.0])
def test_a_gradient_that_grew_closes_windows_of_few_updates_only(way):
  """After a long way the error says how long the next is, as it always does."""
  horizon = optax_predict.horizons.adaptive()
  grown = [error(size=0), *[error(0.001)] * 2]
  last = [error(2.0, way=way, growth=5.0), error(0.001, steps=0)]
  shorter = int(64 * 0.9 * np.sqrt(0.8 / 2) - 1)
  wanted = [0, 7] if way < 32 else [shorter, shorter]
  assert lengths(horizon, grown + last)[-2:] == wanted


def test_a_window_that_ends_downhill_is_lengthened_on_trust_only():
  horizon = optax_predict.horizons.adaptive(max_steps=32)
  grown = [error(size=0), *[error(0.01)] * 5]
  uphill, downhill = error(0.01, growth=1.5), error(5.0, slope=-0.2)
  assert lengths(horizon, [*grown, downhill])[-1] == 32
  assert lengths(horizon, [*grown, uphill, downhill])[-1] == 32
  # 33 * 0.9 * sqrt(0.8 / 5) - 1, which is what the error alone makes of it.
  assert lengths(horizon, [*grown, uphill, uphill, downhill])[-1] == 10


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_slope_is_the_cosine_between_way_and_gradient(scale):
  seen = []

  def update(error, state):
    jax.debug.callback(seen.append, error.slope)
    return jnp.int32(1), state

  horizon = optax_predict.Horizon(lambda: jnp.zeros([]), update, max_growth=9.0)
  predictor = optax_predict.gradient_predictor(
    optax_predict.forecasters.momentum(), horizon
  )
  state = predictor.init(jnp.zeros(2))
  for x, g in [((0, 0), (1, 1)), ((3, 4), (-1, 0)), ((3, 4), (1, 0))]:
    gradients = scale * jnp.array(g, jnp.float32)
    state = predictor.record_gradient(
      gradients, state, jnp.array(x, jnp.float32)
    )
  jax.effects_barrier()
  np.testing.assert_allclose(seen, [0, -0.6, 0], rtol=1e-6)


@pytest.mark.parametrize("trust, is_over", [(0.5, True), (0.7, False)])
def test_a_window_ends_where_the_error_is_beyond_trust(trust, is_over):
  """The forecaster always expects an error of 0.6 times the gradient."""
  forecaster = optax_predict.Forecaster(
    init=lambda params, dtype: jnp.zeros([]),
    observe=lambda gradients, history, motion, forecast: history,
    predict=lambda history, motion: optax_predict.Forecast(
      jnp.ones(4), jnp.float32(1.2)
    ),
    history_size=1,
  )
  horizon = optax_predict.Horizon(
    init=lambda: jnp.zeros([]),
    update=lambda error, state: (jnp.int32(5), jnp.float32(trust)),
    max_expected_error=1.0,
    trust=lambda state: state,
  )
  predictor = optax_predict.gradient_predictor(forecaster, horizon)
  state = predictor.init(jnp.zeros(4))
  state = predictor.record_gradient(jnp.ones(4), state, jnp.zeros(4))
  assert not predictor.should_compute_full(state)
  _, state = predictor.predict_gradient(state, jnp.ones(4))
  assert bool(predictor.should_compute_full(state)) == is_over


PHASES = [
  ((3, 6, 3), "AAA...A...AAA...A...AAA...A..."),
  ((2, 5, 2), "AA..A..A.AA..A..A."),
  ((1, 4, 4), "A....A....A...."),
  ((1, 4, 100), "A....A....A...."),
  ((4, 1, 1), "AAAA.AAAA."),
  ((1, 3, 1), "A.A.A.A.A.A."),
  ((2, 7, 3), "AA...A...A.AA...A...A."),
]


@pytest.mark.parametrize("options, wanted", PHASES)
def test_phases(options, wanted):
  horizon = optax_predict.horizons.phases(*options)
  # Whatever the forecasts are.
  errors = [error(1e6, correlation=-1.0, size=0, steps=7, stopped=1)]
  assert pattern(horizon, errors * wanted.count("A")) == wanted


def test_warmup_comes_before_what_follows():
  phases = optax_predict.horizons.phases(2, 4, 2)
  horizon = optax_predict.horizons.warmup(3, phases)
  wanted = "AAA" + "AA..A.." + "AA..A.."
  assert pattern(horizon, [error()] * wanted.count("A")) == wanted


def test_what_follows_a_warmup_sees_nothing_of_it():
  adaptive = optax_predict.horizons.adaptive()
  horizon = optax_predict.horizons.warmup(4, adaptive)
  errors = [error(0.01)] * 4 + [error(0.1), error(0.01), error(2.0)]
  assert lengths(horizon, errors) == [0] * 4 + lengths(adaptive, errors[4:])


def test_warmup_keeps_the_limits_of_what_follows():
  horizon = optax_predict.horizons.warmup(
    4,
    optax_predict.horizons.adaptive(
      max_growth=3.0, max_expected_error=0.7, max_error=2.0
    ),
  )
  limits = horizon.max_growth, horizon.max_expected_error, horizon.max_error
  assert limits == (3.0, 0.7, 2.0)


def run(predictor, steps, state):
  """Which steps of a run had a true gradient, and its last state."""

  def step(state, _):
    is_due = predictor.should_compute_full(state)
    state = lax.cond(
      is_due,
      lambda: predictor.record_gradient(jnp.ones(2), state),
      lambda: predictor.predict_gradient(state)[1],
    )
    return state, is_due

  scan = jax.jit(lambda state: lax.scan(step, state, length=steps))
  state, is_due = scan(state)
  return "".join("A" if due else "." for due in is_due), state


def test_patterns_of_a_compiled_run_and_after_a_reset():
  predictor = optax_predict.gradient_predictor(
    optax_predict.forecasters.momentum(),
    optax_predict.horizons.warmup(2, optax_predict.horizons.phases(2, 5, 2)),
  )
  state = predictor.init(jnp.zeros(2))
  for leaf in jax.tree.leaves(state):
    assert not np.any(leaf)
  wanted = "AA" + "AA..A..A." + "AA..A..A." + "AA..A"
  for _ in range(2):
    found, state = run(predictor, len(wanted), state)
    assert found == wanted
    state = predictor.reset(state)


def test_a_gradient_that_failed_is_not_counted():
  predictor = optax_predict.gradient_predictor(
    optax_predict.forecasters.momentum(),
    optax_predict.horizons.warmup(2, optax_predict.horizons.phases(2, 3, 3)),
  )
  state = predictor.init(jnp.zeros(2))
  for scale in (1.0, np.nan, 1.0, 1.0, np.inf):
    state = predictor.record_gradient(scale * jnp.ones(2), state)
    assert predictor.should_compute_full(state)
  state = predictor.record_gradient(jnp.ones(2), state)
  assert int(state.window.remaining_steps) == 3


@pytest.mark.parametrize(
  "build, kind, message",
  [
    (
      lambda: optax_predict.horizons.warmup(0, optax_predict.horizons.fixed()),
      ValueError,
      "steps must be at least 1, got 0",
    ),
    (
      lambda: optax_predict.horizons.warmup(3, 4),
      TypeError,
      "then must be a Horizon, got 4",
    ),
    (
      lambda: optax_predict.horizons.phases(full_steps=0),
      ValueError,
      "full_steps must be at least 1, got 0",
    ),
    (
      lambda: optax_predict.horizons.phases(predict_steps=1.5),
      ValueError,
      "predict_steps must be an integer, got 1.5",
    ),
    (
      lambda: optax_predict.horizons.phases(correct_every=0),
      ValueError,
      "correct_every must be at least 1, got 0",
    ),
  ],
)
def test_options_are_checked(build, kind, message):
  with pytest.raises(kind, match=message):
    build()
