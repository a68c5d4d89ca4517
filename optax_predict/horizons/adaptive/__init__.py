"""A window as long as the forecast is good."""

from optax_predict.horizons.adaptive.horizon import adaptive

__all__ = ["adaptive"]
