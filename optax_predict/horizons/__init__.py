"""Horizons: how many steps are predicted before the next true gradient."""

from optax_predict.horizons.adaptive import adaptive
from optax_predict.horizons.fixed import fixed

__all__ = ["adaptive", "fixed"]
