"""Bad input gets an error that names what is wrong and says what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_predict
from optax_predict import forecasters
from optax_predict import horizons


@pytest.mark.parametrize(
  "build, message",
  [
    (lambda: forecasters.momentum(np.nan), "momentum must be in .*, got nan"),
    (lambda: forecasters.momentum(np.inf), "momentum must be in .*, got inf"),
    (lambda: forecasters.momentum(1e39), "momentum must be in .*, got 1e"),
    (lambda: horizons.adaptive("0.5"), "rtol must be a number, got '0.5'"),
    (lambda: forecasters.momentum("fast"), "must be a number, got 'fast'"),
    (lambda: forecasters.momentum(0.9, 1), "history_size must be at least 2"),
    (lambda: forecasters.momentum(0.9, 2.5), "must be an integer, got 2.5"),
    (lambda: forecasters.secant(0), "memory must be at least 1, got 0"),
    (lambda: forecasters.secant(-3), "memory must be at least 1, got -3"),
    (
      lambda: forecasters.secant(directions=0),
      "directions must be at least 1, got 0",
    ),
    (lambda: forecasters.secant(True), "must be an integer, got True"),
    (
      lambda: forecasters.secant(damping=-1.0),
      r"damping must be in \[0, inf\]",
    ),
    (lambda: forecasters.secant(cubic=-0.1), r"cubic must be in \[0, inf\]"),
    (lambda: forecasters.secant(ridge=0.0), r"ridge must be in \(0, inf\)"),
    (lambda: forecasters.secant(staleness=[-0.5]), "staleness must be in"),
    (
      lambda: forecasters.secant(staleness=0.1),
      "staleness must be a sequence, got 0.1",
    ),
    (
      lambda: forecasters.secant(staleness=[]),
      "staleness must hold at least one",
    ),
    (lambda: horizons.fixed(0), "prediction_steps must be at least 1, got 0"),
    (lambda: horizons.fixed(4, 1.5), r"min_correlation must be in \[-1, 1\]"),
    (lambda: horizons.adaptive(0.0), r"rtol must be in \(0, 1\), got 0.0"),
    (lambda: horizons.adaptive(1.0), r"rtol must be in \(0, 1\), got 1.0"),
    (lambda: horizons.adaptive(np.nan), r"rtol must be in \(0, 1\), got nan"),
    (lambda: horizons.adaptive(max_steps=0), "max_steps must be at least 1"),
    (lambda: horizons.adaptive(max_growth=0.5), "max_growth must be in"),
    (lambda: horizons.adaptive(max_error=0.0), "max_error must be in"),
    (
      lambda: optax_predict.predict_gradients(correction_weight=np.inf),
      "correction_weight must be finite, got inf",
    ),
    (
      lambda: optax_predict.predict_gradients(accumulator_dtype="int32"),
      "accumulator_dtype must be a floating point dtype, got 'int32'",
    ),
    (
      lambda: optax_predict.predict_gradients(accumulator_dtype="float64"),
      "accumulator_dtype is float64, which JAX makes float32 of",
    ),
    (
      lambda: optax_predict.predict_gradients(accumulator_dtype="half-ish"),
      "accumulator_dtype must be a dtype, got 'half-ish'",
    ),
  ],
)
def test_options_are_checked_when_built(build, message):
  with pytest.raises(ValueError, match=message):
    build()


def test_parts_must_be_parts():
  with pytest.raises(TypeError, match="forecaster must be a Forecaster, got"):
    optax_predict.predict_gradients("secant")
  with pytest.raises(TypeError, match="horizon must be a Horizon, got 4"):
    optax_predict.predict_gradients(horizon=4)


def test_integer_parameters_are_refused_by_path():
  params = {"layer": {"count": jnp.arange(3), "kernel": jnp.ones(3)}}
  with pytest.raises(TypeError, match=r"\['layer'\]\['count'\].*int32"):
    optax_predict.predict_gradients().init(params)


def test_missing_params_are_named():
  tx = optax_predict.predict_gradients()
  params = {"a": jnp.ones(3)}
  with pytest.raises(ValueError, match="params is missing.*update"):
    tx.update(params, tx.init(params))


@pytest.mark.parametrize(
  "forecaster", [forecasters.momentum(), forecasters.secant(2)]
)
@pytest.mark.parametrize(
  "gradients, message",
  [
    ({"a": jnp.ones(4), "b": jnp.ones(2)}, r"\['a'\] has shape \(4,\)"),
    ({"a": jnp.ones(3)}, r"\['b'\] is missing"),
    (
      {"a": jnp.ones(3), "b": jnp.ones(2), "c": jnp.ones(1)},
      r"\['c'\] is not in the state",
    ),
    ([jnp.ones(3), jnp.ones(2)], "is missing|is not in the state"),
  ],
)
def test_gradients_must_fit_the_state(forecaster, gradients, message):
  tx = optax_predict.predict_gradients(forecaster)
  params = {"a": jnp.ones(3), "b": jnp.ones(2)}
  state = tx.init(params)
  for update in (tx.update, jax.jit(tx.update)):
    with pytest.raises(ValueError, match=message):
      update(gradients, state, params)


def test_params_must_fit_the_state():
  tx = optax_predict.predict_gradients()
  params = {"a": jnp.ones(3)}
  with pytest.raises(ValueError, match=r"params: leaf \['a'\] has shape"):
    tx.update(params, tx.init(params), {"a": jnp.ones(2)})


def test_hyperparameters_can_be_injected():
  def make(learning_rate, rtol, momentum):
    return optax.chain(
      optax_predict.predict_gradients(
        forecasters.momentum(momentum), horizons.adaptive(rtol)
      ),
      optax.sgd(learning_rate),
    )

  tx = optax.inject_hyperparams(make)(learning_rate=0.1, rtol=0.5, momentum=0.9)
  params = {"a": jnp.ones(3)}
  state = tx.init(params)

  @jax.jit
  def step(params, state):
    updates, state = tx.update(params, state, params)
    params = optax.apply_updates(params, updates)
    return optax_predict.fast_forward(tx, params, state)

  for _ in range(10):
    params, state = step(params, state)
  assert float(params["a"][0]) < 0.2
  assert int(optax_predict.get_stats(state).predicted_steps) > 0
