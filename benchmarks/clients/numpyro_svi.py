"""numpyro: ``SVI`` with ``AutoDelta``, a linear regression's posterior mode."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import distributions as dist
from numpyro.infer import autoguide
from numpyro.infer import SVI
from numpyro.infer import Trace_ELBO
import optax

from benchmarks.clients import _base

_STEPS, _SMALL_STEPS = 1000, 500


def _model(x, y):
  intercept = numpyro.sample("a", dist.Normal(0.0, 0.2))
  with numpyro.plate("columns", x.shape[1]):
    slopes = numpyro.sample("b", dist.Normal(0.0, 0.5))
  scale = numpyro.sample("sigma", dist.Exponential(1.0))
  numpyro.sample("obs", dist.Normal(intercept + x @ slopes, scale), obs=y)


def run(
  optimizer, is_small: bool = False, steps: int | None = None
) -> _base.Run:
  """Fifty rows and two correlated columns, standardised, as in the tutorial."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal((50, 2)) @ np.array([[1.0, -0.7], [0.0, 0.7]])
  y = x @ np.array([-0.1, 0.6]) + 0.8 * rng.standard_normal(50)
  x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
  svi = SVI(_model, autoguide.AutoDelta(_model), optimizer, Trace_ELBO())
  result = svi.run(
    jax.random.key(0),
    steps or (_SMALL_STEPS if is_small else _STEPS),
    x,
    y,
    progress_bar=False,
  )
  return _base.Run(np.asarray(result.losses), result.state.optim_state)


CLIENT = _base.Client(
  library="numpyro",
  loop="`SVI` with `AutoDelta`",
  rule="Adam 1e-2",
  optimizer=lambda: optax.adam(1e-2),
  run=run,
)
