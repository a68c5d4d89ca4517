"""The two parts a predictor is made of.

A :class:`Forecaster` knows past gradients and nothing of horizons. A
:class:`Horizon` knows a few scalars and nothing of gradients. Both are
``NamedTuple``s of pure functions, built by a factory that closes over its
options, as an :class:`optax.GradientTransformation` is.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax

from optax_predict.core import trees

PyTree = Any


class Motion(NamedTuple):
  """How far the run has moved since the last true gradient.

  Attributes:
    steps: optimizer steps since the last true gradient, ``int32[]``.
    params: parameters now; ``None`` when neither forecaster nor horizon needs
      to know.
    anchor: parameters at the last true gradient; ``None`` with them.
    distance: norm of the displacement, a real scalar; ``None`` with them, and for
      ``project``, which finds it.
    projection: what the forecaster's ``project`` made of the displacement, where
      that was done already; else ``None``.
  """

  steps: jax.Array
  params: PyTree | None = None
  anchor: PyTree | None = None
  distance: jax.Array | None = None
  projection: PyTree | None = None

  @property
  def displacement(self) -> PyTree:
    """Parameters now minus those at the last true gradient, float32 or wider.

    Where it is asked for is where it is computed: inside a branch of a cond it
    is part of what that branch computes, and never held.
    """
    return trees.difference(self.params, self.anchor)


class Forecast(NamedTuple):
  """A predicted gradient.

  Attributes:
    gradients: a tree like the parameters.
    expected_error: the norm that the forecaster expects of its error, a real
      scalar in the unit of the gradient's norm; infinite or NaN when the
      gradients may not be finite. ``None`` without an estimate: the gradients
      are then looked at, which is one more pass over them.
    curvature: how fast the forecast changes at most, in gradient per distance, a
      real scalar. While the change cannot be large, one forecast serves several
      steps. ``None`` without an estimate: each step has its own.
  """

  gradients: PyTree
  expected_error: jax.Array | None = None
  curvature: jax.Array | None = None


class Weighed(NamedTuple):
  """A predicted gradient as a sum of trees.

  Attributes:
    weights: of the trees, ``[n]``.
    on_motion: weight of the displacement since the last true gradient, a real
      scalar.
    expected_error: as in a :class:`Forecast`.
    curvature: as there.
  """

  weights: jax.Array
  on_motion: jax.Array
  expected_error: jax.Array
  curvature: jax.Array


class Span(NamedTuple):
  """The trees that all forecasts of a history are sums of.

  Attributes:
    trees: n of them, like the parameters.
    products: ``[k, k]``, inner products of the first k of the trees, as far as they
      are known; k may be 0.
    weigh: ``weigh(products, distance) -> Weighed``: the forecast at a displacement,
      from its inner products with the trees, ``[n]``, and its norm.
  """

  trees: tuple[PyTree, ...]
  products: jax.Array
  weigh: Callable[[jax.Array, jax.Array], Weighed]


class Forecaster(NamedTuple):
  """Predicts a gradient from past true gradients.

  Attributes:
    init: ``init(params, dtype) -> history``. ``dtype`` is what the bulk of the
      history is kept in, ``None`` for each parameter's own. Every array of the
      history starts as zeros (a reset relies on it), and one slot of it is one
      tree like the parameters, never a stacked array: that is what keeps
      shardings, boxed parameters and masked leaves intact.
    observe: ``observe(gradients, history, motion, error) -> history`` takes in a
      true, finite gradient, with the norm of what ``predict`` was off by, a real
      scalar. The motion is counted from the gradient before.
    predict: ``predict(history, motion) -> Forecast`` only reads. An empty
      history predicts zeros.
    history_size: how many true gradients a full history stands for.
    needs_params: whether the motion must hold parameters.
    project: ``project(history, motion) -> (distance, projection)``, optional: the
      motion's distance, which is not known before, and the part of a forecast
      that takes a pass over the history and is small, a tree of arrays. Both in
      one pass, which is done once where a forecast is first judged by its
      expected error and then made.
    needs_look_ahead: whether a forecast may not be finite, or be expected to be
      poor, where one earlier in the window was not. ``False`` spares the look at
      each; :func:`fast_forward` then takes several steps in one pass.
    leave_out_trees: ``leave_out_trees(history) -> history``, optional: with ``None``
      in the place of every tree that is like the parameters. What is left is small
      and kept in two arrays by :func:`accelerate`, which spares time at every call.
    span: ``span(history) -> Span``, optional: what forecasts are sums of. A window of
      an optimizer that is linear in the gradient, such as SGD with momentum, then
      reads the trees at its beginning and its end, and not at every step.
    recall: ``recall(history) -> gradients``, optional: the last true gradient, or what
      stands for it. The next ones are compared with it, to tell noise before a rest
      (``rest`` of a :class:`Horizon`). Without it a rest begins at once.
  """

  init: Callable[[PyTree, Any], PyTree]
  observe: Callable[[PyTree, PyTree, Motion, jax.Array], PyTree]
  predict: Callable[[PyTree, Motion], Forecast]
  history_size: int
  needs_params: bool = False
  project: Callable[[PyTree, Motion], tuple[jax.Array, PyTree]] | None = None
  needs_look_ahead: bool = True
  leave_out_trees: Callable[[PyTree], PyTree] | None = None
  span: Callable[[PyTree], Span] | None = None
  recall: Callable[[PyTree], PyTree] | None = None


class ForecastError(NamedTuple):
  """What a true gradient says of the forecast that could have stood for it.

  Attributes:
    relative_error: ``|predicted - actual| / sqrt(|actual| |last actual|)``,
      ``float32[]``, finite; 1 when either norm is zero. A ratio of norms.
    correlation: cosine between predicted and actual, ``float32[]`` in [-1, 1].
    history_size: true gradients the forecast was made from, ``int32[]``; 0
      means there was no forecast and the other fields say nothing.
    window_steps: predicted steps taken since the last true gradient,
      ``int32[]``.
    window_stopped: 1 when that window was stopped because a forecast or an
      update grew too long or was not finite, else 0, ``int32[]``.
    growth: norm of the true gradient over that of the last one, ``float32[]``,
      finite; 1 where that was zero.
    slope: cosine between the way from the last true gradient and this one,
      ``float32[]`` in [-1, 1]: below 0 the loss still falls along that way; 0
      where there is none or nothing looks at the parameters.
    way: distance from the last true gradient to this one over the length of the
      optimizer's update from that, ``float32[]``, finite: how many such updates lead
      as far; 0 where nothing was predicted or the horizon sets no limit.
    loss: at the true gradient, ``float32[]``, where the caller passed it as
      ``value``; ``None`` otherwise.
    rested: true gradients that a rest has let through since the last one that was
      recorded, ``int32[]``; 0 too where a rest was asked for and the gradients
      proved to be no noise.
  """

  relative_error: jax.Array
  correlation: jax.Array
  history_size: jax.Array
  window_steps: jax.Array
  window_stopped: jax.Array
  growth: jax.Array | float = 1.0
  slope: jax.Array | float = 0.0
  way: jax.Array | float = 0.0
  loss: jax.Array | None = None
  rested: jax.Array | int = 0


class Horizon(NamedTuple):
  """Decides how many steps are predicted before the next true gradient.

  Attributes:
    init: ``init() -> state``, arrays of zeros (a reset relies on it).
    update: ``update(error, state) -> (steps, state)``, called at every true
      gradient that is recorded; ``steps`` is ``int32[]``, 0 for none. After a
      window that led to a gradient or a loss that is not finite, the next one that is
      tells of the largest error.
    max_growth: a window also ends after an update by the optimizer that is
      longer than this many times its update from the last true gradient, unless
      it is short beside what the window may lead, and where it has led more than
      this many times as far as the last move between true gradients, or as
      ``reach`` says. A true gradient after a window that is longer than this many
      times the last one is scaled down to that length, and so are those after it
      until one is not longer. In the per-step form, which cannot leave a step
      out, a predicted gradient is scaled down in the same way and ends the
      window. ``None`` for no such limit.
    max_expected_error: a window also ends when the forecaster expects a larger
      relative error than this; ``None`` for no such limit.
    max_error: where the forecast for the true gradient after a window had a
      larger relative error than this, or that gradient is not finite,
      :func:`fast_forward` and :func:`accelerate` take the window back: they put the
      parameters to where its predicted steps began. ``None`` for no such limit.
    trust: ``trust(state) -> share``, ``float32[]`` in (0, 1], of
      ``max_expected_error`` that holds for this window; ``None`` for all of it.
    reach: ``reach(state) -> times``, ``float32[]``: how many times as far as the
      last move this window may lead; ``None`` for ``max_growth`` times.
    rest: ``rest(state) -> count``, ``int32[]``: how many true gradients to let through
      without a look at them, if they are noise. The next four are compared with the
      last one to find out; these are not recorded either. 0 or ``None`` for none.
  """

  init: Callable[[], PyTree]
  update: Callable[[ForecastError, PyTree], tuple[jax.Array, PyTree]]
  max_growth: float | None = None
  max_expected_error: float | None = None
  max_error: float | None = None
  trust: Callable[[PyTree], jax.Array] | None = None
  reach: Callable[[PyTree], jax.Array] | None = None
  rest: Callable[[PyTree], jax.Array] | None = None


def of_inner(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
  """A function of a horizon's state, for one that holds it as ``then``."""
  return None if function is None else lambda state: function(state.then)
