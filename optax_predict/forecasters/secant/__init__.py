"""A model of how gradients change with the parameters."""

from optax_predict.forecasters.secant.forecaster import secant
from optax_predict.forecasters.secant.history import SecantHistory

__all__ = ["SecantHistory", "secant"]
