"""A forecast as a sum over what the history holds, and what is said of it."""

import jax
import jax.numpy as jnp

from optax_predict.core import interfaces
from optax_predict.forecasters.secant import kept_pairs
from optax_predict.forecasters.secant import model
from optax_predict.forecasters.secant.history import SecantHistory


def weigh(
  history: SecantHistory,
  projection: jax.Array,
  distance: jax.Array,
  cubic: float,
  damping: float,
) -> tuple[jax.Array, interfaces.Weighed]:
  """The forecast at a displacement, less the last gradient.

  Args:
    history: the forecaster's.
    projection: the displacement's inner products with the basis, ``[r]``.
    distance: its norm.
    cubic: of :func:`forecasters.secant`.
    damping: as there.

  Returns:
    ``(is_safe, weighed)``: whether no element of the forecast can overflow, and its
    weights, those of the basis first.
  """
  s_d, y_d = kept_pairs.products(history.kept, projection)
  best = jnp.argmin(history.scores)
  k_d = model.features(s_d, 1, cubic, history)
  c, t = model.solve(history.inverses[best], k_d, y_d, history)
  chosen = model.weights(c, t, history.fits[best], damping, history)
  square = model.squared_remainder(c, s_d, distance**2, history)
  # No element of the forecast is larger than this sum of norms.
  largest = (
    jnp.sqrt(jnp.diagonal(history.change_gram)) @ jnp.abs(chosen.on_changes)
    + jnp.sum(jnp.abs(chosen.on_displacements))
    + chosen.on_motion * distance
  )
  is_safe = largest < jnp.sqrt(jnp.finfo(c.dtype).max)
  expected_error = model.expected_error(square, history)
  return is_safe, interfaces.Weighed(
    kept_pairs.weights(
      history.kept, chosen.on_displacements, chosen.on_changes
    ),
    chosen.on_motion,
    jnp.where(is_safe, expected_error, jnp.inf),
    model.largest_curvature(history),
  )


def span(
  history: SecantHistory, cubic: float, damping: float
) -> interfaces.Span:
  """What forecasts are sums of: the basis, and the last gradient."""

  def weigh_products(products, distance):
    _, found = weigh(history, products[:-1], distance, cubic, damping)
    one = jnp.ones_like(found.weights, shape=1)
    return found._replace(weights=jnp.concatenate([found.weights, one]))

  return interfaces.Span(
    (*history.kept.basis, history.last_gradient),
    kept_pairs.known_products(history.kept),
    weigh_products,
  )
