"""Horizons: how many steps are predicted before the next true gradient."""

from optax_predict.horizons.adaptive import adaptive
from optax_predict.horizons.fixed import fixed
from optax_predict.horizons.phases import phases
from optax_predict.horizons.shorten_on_loss import shorten_on_loss
from optax_predict.horizons.warmup import warmup

__all__ = ["adaptive", "fixed", "phases", "shorten_on_loss", "warmup"]
