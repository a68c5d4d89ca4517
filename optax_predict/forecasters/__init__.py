"""Forecasters: how a gradient is predicted from past ones."""

from optax_predict.forecasters.momentum import momentum
from optax_predict.forecasters.secant import secant

__all__ = ["momentum", "secant"]
