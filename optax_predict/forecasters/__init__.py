"""Forecasters: how a gradient is predicted from past ones."""

from optax_predict.forecasters.holt import holt
from optax_predict.forecasters.momentum import momentum
from optax_predict.forecasters.secant import secant
from optax_predict.forecasters.trend import trend

__all__ = ["holt", "momentum", "secant", "trend"]
