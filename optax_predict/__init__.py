"""Fewer true gradients for the optax optimizer you already have, in any loop."""

import importlib
from typing import Any

from optax_predict import forecasters
from optax_predict import horizons
from optax_predict.core.interfaces import Forecast
from optax_predict.core.interfaces import Forecaster
from optax_predict.core.interfaces import ForecastError
from optax_predict.core.interfaces import Horizon
from optax_predict.core.interfaces import Motion
from optax_predict.core.interfaces import Span
from optax_predict.core.interfaces import Weighed
from optax_predict.diagnostics import monitoring
from optax_predict.diagnostics import predictability
from optax_predict.engine.predictor import gradient_predictor
from optax_predict.engine.state import AccelerateState
from optax_predict.engine.state import GradientPredictor
from optax_predict.engine.state import PredictorStats
from optax_predict.engine.state import PredictState
from optax_predict.forms.accelerate import accelerate
from optax_predict.forms.accelerate import get_base_state
from optax_predict.forms.check_chain import check_chain
from optax_predict.forms.fast_forward import fast_forward
from optax_predict.forms.predict_gradients import predict_gradients
from optax_predict.forms.predictor_states import get_stats
from optax_predict.forms.predictor_states import reset
from optax_predict.forms.predictor_states import should_compute_full
from optax_predict.forms.value_and_grad import value_and_grad

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
  # flax is optional, and slow to import.
  if name == "nnx":
    return importlib.import_module("optax_predict.nnx")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
  "AccelerateState",
  "Forecast",
  "ForecastError",
  "Forecaster",
  "GradientPredictor",
  "Horizon",
  "Motion",
  "PredictState",
  "PredictorStats",
  "Span",
  "Weighed",
  "accelerate",
  "check_chain",
  "fast_forward",
  "forecasters",
  "get_base_state",
  "get_stats",
  "gradient_predictor",
  "horizons",
  "monitoring",
  "predict_gradients",
  "predictability",
  "reset",
  "should_compute_full",
  "value_and_grad",
]
