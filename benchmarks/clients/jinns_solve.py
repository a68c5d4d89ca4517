"""jinns: ``solve`` on Burgers' equation."""

import equinox
import jax
import jax.numpy as jnp
import jinns
import numpy as np
import optax

from benchmarks.clients import _base

_STEPS, _SMALL_STEPS = 1000, 150
_POINTS, _SMALL_POINTS = 1000, 100
_LAYERS, _SMALL_LAYERS = 3, 1
_WIDTH = 20


def _network(key, layers):
  hidden = [(equinox.nn.Linear, _WIDTH, _WIDTH), (jax.nn.tanh,)] * layers
  return jinns.nn.PINN_MLP.create(
    key=key,
    eqx_list=(
      (equinox.nn.Linear, 2, _WIDTH),
      (jax.nn.tanh,),
      *hidden,
      (equinox.nn.Linear, _WIDTH, 1),
    ),
    eq_type="PDENonStatio",
  )


def run(
  optimizer, is_small: bool = False, steps: int | None = None
) -> _base.Run:
  """All points in every gradient: jinns makes no minibatches unless asked."""
  network_key, data_key = jax.random.split(jax.random.PRNGKey(2))
  layers = _SMALL_LAYERS if is_small else _LAYERS
  network, weights = _network(network_key, layers)
  points = _SMALL_POINTS if is_small else _POINTS
  data = jinns.data.CubicMeshPDENonStatio(
    key=data_key,
    n=points,
    nb=2 * (points // 5),
    ni=points // 5,
    dim=1,
    min_pts=(-1.0,),
    max_pts=(1.0,),
    tmin=0.0,
    tmax=1.0,
    method="uniform",
  )
  params = jinns.parameters.Params(
    nn_params=weights, eq_params={"nu": 1 / (100 * np.pi)}
  )
  loss = jinns.loss.LossPDENonStatio(
    u=network,
    dynamic_loss=jinns.loss.BurgersEquation(Tmax=1.0),
    initial_condition_fun=lambda x: -jnp.sin(np.pi * x),
    boundary_condition=jinns.loss.Dirichlet(),
    loss_weights=jinns.loss.LossWeightsPDENonStatio(
      dyn_loss=1.0, initial_condition=10.0, boundary_loss=1.0
    ),
    params=params,
  )
  result = jinns.solve(
    n_iter=steps or (_SMALL_STEPS if is_small else _STEPS),
    init_params=params,
    data=data,
    loss=loss,
    optimizer=optimizer,
    verbose=False,
  )
  return _base.Run(np.asarray(result[1]), result[5])


CLIENT = _base.Client(
  library="jinns",
  loop="`solve`, Burgers",
  rule="Adam 1e-3",
  optimizer=lambda: optax.adam(1e-3),
  run=run,
)
