"""gpjax: ``fit`` on its regression example, in double precision."""

import gpjax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.clients import _base

_POINTS, _SMALL_POINTS = 100, 30
_STEPS, _SMALL_STEPS = 500, 250


def run(
  optimizer, is_small: bool = False, steps: int | None = None
) -> _base.Run:
  """Fits lengthscale, variance and noise of an exact Gaussian process."""
  with jax.enable_x64(True):
    key, noise_key = jax.random.split(jax.random.key(123))
    points = _SMALL_POINTS if is_small else _POINTS
    x = jax.random.uniform(key, (points, 1), minval=-3.0, maxval=3.0)
    y = jnp.sin(4 * x) + jnp.cos(2 * x)
    y += 0.3 * jax.random.normal(noise_key, y.shape)
    prior = gpjax.gps.Prior(
      mean_function=gpjax.mean_functions.Zero(), kernel=gpjax.kernels.RBF()
    )
    _, losses = gpjax.fit(
      model=prior * gpjax.likelihoods.Gaussian(),
      objective=lambda p, d: -gpjax.objectives.conjugate_mll(p, d),
      train_data=gpjax.Dataset(X=x, y=y),
      optim=optimizer,
      num_iters=steps or (_SMALL_STEPS if is_small else _STEPS),
      verbose=False,
    )
    return _base.Run(np.asarray(losses))


CLIENT = _base.Client(
  library="gpjax",
  loop="`fit`, regression in float64",
  rule="Adam 1e-2",
  optimizer=lambda: optax.adam(1e-2),
  run=run,
)
