"""Every wrapper of optax, and what it answers when a predictor is in it."""

from collections.abc import Callable
import enum
from typing import Any
from typing import NamedTuple

import optax
from optax import contrib


class Outcome(enum.StrEnum):
  """What a form answers, in the words of the table."""

  EXACT = "predicts"
  CLOSE = "predicts, differs"
  NONE = "never predicts"
  ERROR = "error"
  REFUSED = "refused"
  WRONG = "**do not**"


EXACT, CLOSE, NONE, ERROR, REFUSED, WRONG = Outcome


class Case(NamedTuple):
  """One optimizer with a predictor somewhere in it.

  Attributes:
    name: in Markdown, with ``predict`` for the predictor.
    build: ``build(predict) -> tx``, where ``predict()`` makes a predictor or,
      for the optimizer alone, nothing.
    fast_forward: the outcome with ``fast_forward``.
    per_step: the outcome with ``value_and_grad``.
    note: why, and what to do.
    message: of the errors, a regular expression.
    decay: weight decay that the predictor sees as part of the gradient.
    needs_value: whether ``update`` is passed the loss.
    start: makes the optimizer's parameters from those of the loss.
  """

  name: str
  build: Callable[[Callable], Any]
  fast_forward: Outcome = EXACT
  per_step: Outcome = EXACT
  note: str = ""
  message: str = ""
  decay: float = 0.0
  needs_value: bool = False
  start: Callable[[Any], Any] = lambda params: params


LABELS = {"w": "x", "b": "y"}
ONLY_W = {"w": True, "b": False}
ONLY_B = {"w": False, "b": True}


def base():
  """An optimizer with a memory: it notices every gradient that is wrong."""
  return optax.sgd(0.3, momentum=0.5)


def two_of_three(step):
  return step % 3 != 2


def adversary():
  return optax.chain(contrib.normalize(), optax.sgd(0.01))


def injected(rate):
  """A builder with an injected learning rate."""
  return lambda p: optax.inject_hyperparams(
    lambda learning_rate: optax.chain(p(), optax.sgd(learning_rate))
  )(learning_rate=rate)


def multi_steps(inner):
  return optax.MultiSteps(inner, 2).gradient_transformation()


def without_extra_args(inner):
  def update(updates, state, params=None):
    return inner.update(updates, state, params)

  return optax.GradientTransformation(inner.init, update)


LEAK = "A skipped gradient would reach {} as zeros. "
FIRST = LEAK + "Put `predict` first."
NEEDS_VALUE = "Pass `value=loss`, to `fast_forward` too: the last known loss."
SEARCHES = "Evaluates the loss at every step; prediction saves nothing."

CASES = (
  Case("`chain(predict, base)`", lambda p: optax.chain(p(), base())),
  Case(
    "`named_chain(('p', predict), ('b', base))`",
    lambda p: optax.named_chain(("p", p()), ("b", base())),
  ),
  Case(
    "`MultiSteps(chain(predict, base), k)`",
    lambda p: multi_steps(optax.chain(p(), base())),
    fast_forward=NONE,
    note="Per step, whole groups of k mini-steps are predicted.",
  ),
  Case(
    "`chain(predict, MultiSteps(base, k))`",
    lambda p: optax.chain(p(), multi_steps(base())),
    note="Counts mini-steps: predicts some of them where parameters rest.",
  ),
  Case(
    "`apply_every(k)`, last",
    lambda p: optax.chain(p(), base(), optax.apply_every(2)),
    note="As `MultiSteps` behind `predict`.",
  ),
  Case(
    "`apply_if_finite(chain(predict, base), n)`",
    lambda p: optax.apply_if_finite(optax.chain(p(), base()), 3),
  ),
  Case(
    "`chain(predict, apply_if_finite(base, n))`",
    lambda p: optax.chain(p(), optax.apply_if_finite(base(), 3)),
  ),
  Case(
    "`chain(predict, zero_nans(), base)`",
    lambda p: optax.chain(p(), optax.zero_nans(), base()),
  ),
  Case(
    "`chain(masked(predict, m), base)`",
    lambda p: optax.chain(optax.masked(p(), ONLY_W), base()),
    fast_forward=REFUSED,
    per_step=REFUSED,
    note=LEAK.format("the parameters outside of m")
    + "Mask or partition behind `predict`.",
  ),
  Case(
    "`chain(masked(chain(predict, base), m), freeze(not m))`",
    lambda p: optax.chain(
      optax.masked(optax.chain(p(), base()), ONLY_W),
      optax.masked(optax.set_to_zero(), ONLY_B),
    ),
    note="Keeps no history for frozen parameters.",
  ),
  Case(
    "`chain(predict, masked(base, m), freeze(not m))`",
    lambda p: optax.chain(
      p(),
      optax.masked(base(), ONLY_W),
      optax.masked(optax.set_to_zero(), ONLY_B),
    ),
  ),
  Case(
    "`partition`, a predictor in every group",
    lambda p: optax.partition(
      {
        "x": optax.chain(p(), base()),
        "y": optax.chain(p(), optax.adam(0.1)),
      },
      LABELS,
    ),
    note="The window ends as soon as one of them asks for a true gradient.",
  ),
  Case(
    "`partition`, no predictor in a trained group",
    lambda p: optax.partition(
      {"x": optax.chain(p(), base()), "y": optax.adam(0.1)}, LABELS
    ),
    fast_forward=REFUSED,
    per_step=REFUSED,
    note=LEAK.format("that group") + "Give it a predictor.",
  ),
  Case(
    "`partition`, the other group frozen",
    lambda p: optax.partition(
      {"x": optax.chain(p(), base()), "y": optax.set_to_zero()}, LABELS
    ),
    note="Keeps no history for frozen parameters.",
  ),
  Case(
    "`chain(predict, partition(...))`",
    lambda p: optax.chain(
      p(), optax.partition({"x": base(), "y": optax.adam(0.1)}, LABELS)
    ),
  ),
  Case(
    "`inject_hyperparams`",
    injected(0.3),
    note="List options that set shapes, such as `memory`, in `static_args`.",
  ),
  Case(
    "`inject_hyperparams` with a schedule",
    injected(optax.exponential_decay(0.5, 5, 0.8)),
    note="The schedule counts optimizer steps, predicted ones too.",
  ),
  Case(
    "`chain(conditionally_transform(predict, f), base)`",
    lambda p: optax.chain(
      optax.conditionally_transform(p(), two_of_three), base()
    ),
    per_step=REFUSED,
    note=LEAK.format("`base` where f is false")
    + "`fast_forward` ends the window there instead.",
  ),
  Case(
    "`conditionally_transform` behind `predict`",
    lambda p: optax.chain(
      p(), optax.conditionally_transform(optax.scale(0.5), two_of_three), base()
    ),
  ),
  Case(
    "`conditionally_mask(chain(predict, base), f)`",
    lambda p: optax.conditionally_mask(optax.chain(p(), base()), two_of_three),
    note="`fast_forward` ends the window where f is false.",
  ),
  Case(
    "`chain(predict, conditionally_mask(base, f))`",
    lambda p: optax.chain(p(), optax.conditionally_mask(base(), two_of_three)),
  ),
  Case(
    "`lookahead(chain(predict, base), ...)`",
    start=optax.LookaheadParams.init_synced,
    build=lambda p: optax.lookahead(optax.chain(p(), base()), 3, 0.5),
    fast_forward=ERROR,
    message="gradients: leaf .* is not in the state",
    note="Its parameters are pairs, its gradients are not: per step only.",
  ),
  Case(
    "`lookahead(..., reset_state=True)`",
    start=optax.LookaheadParams.init_synced,
    build=lambda p: optax.lookahead(
      optax.chain(p(), base()), 5, 0.5, reset_state=True
    ),
    fast_forward=ERROR,
    message="gradients: leaf .* is not in the state",
    note="Per step only; forgets its history at every reset.",
  ),
  Case(
    "`chain(predict, lookahead(base, ...))`",
    start=optax.LookaheadParams.init_synced,
    build=lambda p: optax.chain(p(), optax.lookahead(base(), 3, 0.5)),
    fast_forward=ERROR,
    per_step=ERROR,
    message="gradients: leaf .* is missing",
    note="Put `predict` inside.",
  ),
  Case(
    "`contrib.schedule_free(chain(predict, base), ...)`",
    lambda p: contrib.schedule_free(
      optax.chain(p(), optax.sgd(0.3)), 0.3, b1=0.9
    ),
  ),
  Case(
    "`chain(predict, contrib.schedule_free(base, ...))`",
    lambda p: optax.chain(
      p(), contrib.schedule_free(optax.sgd(0.3), 0.3, b1=0.9)
    ),
  ),
  Case(
    "`contrib.mechanize(chain(predict, base))`",
    lambda p: contrib.mechanize(optax.chain(p(), optax.sgd(1.0)), s_init=0.1),
    fast_forward=REFUSED,
    per_step=REFUSED,
    note=FIRST.format("`mechanize`"),
  ),
  Case(
    "`chain(predict, contrib.mechanize(base))`",
    lambda p: optax.chain(p(), contrib.mechanize(optax.sgd(1.0), s_init=0.1)),
  ),
  Case(
    "`contrib.sam(chain(predict, base), adversary)`",
    lambda p: contrib.sam(optax.chain(p(), base()), adversary()),
    fast_forward=REFUSED,
    per_step=REFUSED,
    note=LEAK.format("the adversary, which divides by their norm: NaN")
    + "Put `predict` first.",
  ),
  Case(
    "`chain(predict, contrib.sam(base, adversary))`",
    lambda p: optax.chain(p(), contrib.sam(base(), adversary())),
  ),
  Case(
    "`contrib.split_real_and_imaginary(chain(predict, base))`",
    lambda p: contrib.split_real_and_imaginary(optax.chain(p(), base())),
  ),
  Case(
    "`selective_transform(chain(predict, base), freeze_mask=m)`",
    lambda p: optax.selective_transform(
      optax.chain(p(), base()), freeze_mask=ONLY_B
    ),
    note="Keeps no history for frozen parameters.",
  ),
  Case(
    "your own around `chain(predict, base)`, without `**extra_args`",
    lambda p: without_extra_args(optax.chain(p(), base())),
    note="Choosing between steps costs a pass over the state: let `update` take"
    " `**extra_args` and pass them on.",
  ),
  Case(
    "`flatten(chain(predict, base))`",
    lambda p: optax.flatten(optax.chain(p(), base())),
    note="For [many small arrays](performance.md#many-small-arrays).",
  ),
  Case(
    "`chain(predict, flatten(base))`",
    lambda p: optax.chain(p(), optax.flatten(base())),
  ),
  Case(
    "clipping behind `predict`",
    lambda p: optax.chain(p(), optax.clip_by_global_norm(0.5), base()),
  ),
  Case(
    "clipping before `predict`",
    lambda p: optax.chain(optax.clip_by_global_norm(0.5), p(), base()),
    fast_forward=CLOSE,
    per_step=CLOSE,
    note="Forecasts are of clipped gradients, and are not clipped again.",
  ),
  Case(
    "`add_decayed_weights` behind `predict`",
    lambda p: optax.chain(p(), optax.add_decayed_weights(0.1), base()),
  ),
  Case(
    "`add_decayed_weights` before `predict`",
    lambda p: optax.chain(optax.add_decayed_weights(0.1), p(), base()),
    per_step=REFUSED,
    note="The decay is part of what is predicted. Per step, what was skipped does"
    " not arrive as zeros: put it behind `predict`.",
    decay=0.1,
  ),
  Case(
    "`ema` behind `predict`",
    lambda p: optax.chain(p(), optax.ema(0.5), optax.sgd(0.3)),
  ),
  Case(
    "`ema` before `predict`",
    lambda p: optax.chain(optax.ema(0.5), p(), optax.sgd(0.3)),
    fast_forward=REFUSED,
    per_step=REFUSED,
    note=FIRST.format("the average"),
  ),
  Case(
    "`scale_by_adam` before `predict`",
    lambda p: optax.chain(optax.scale_by_adam(), p(), optax.scale(-0.05)),
    fast_forward=REFUSED,
    per_step=REFUSED,
    note=FIRST.format("the moments") + " So with all that has a state.",
  ),
  Case(
    "`add_noise` behind `predict`",
    lambda p: optax.chain(p(), optax.add_noise(1e-4, 0.5, 0), base()),
  ),
  Case(
    "`add_noise` before `predict`",
    lambda p: optax.chain(optax.add_noise(1e-4, 0.5, 0), p(), base()),
    fast_forward=CLOSE,
    per_step=REFUSED,
    note="Forecasts are made from noisy gradients and get no noise of their own."
    " Per step, what was skipped does not arrive as zeros.",
  ),
  Case(
    "`freeze(m)`, last",
    lambda p: optax.chain(
      p(), base(), optax.masked(optax.set_to_zero(), ONLY_B)
    ),
  ),
  Case(
    "`keep_params_nonnegative()`, last",
    lambda p: optax.chain(p(), base(), optax.keep_params_nonnegative()),
  ),
  Case(
    "`contrib.reduce_on_plateau`, patience of a window and more",
    lambda p: optax.chain(p(), base(), contrib.reduce_on_plateau(patience=9)),
    note=NEEDS_VALUE + " Patience counts predicted steps: let it exceed the"
    " horizon's `max_steps`.",
    needs_value=True,
  ),
  Case(
    "`contrib.reduce_on_plateau`, patience of less than a window",
    lambda p: optax.chain(p(), base(), contrib.reduce_on_plateau(patience=3)),
    fast_forward=WRONG,
    per_step=WRONG,
    note="A repeated loss is taken for a plateau and the rate reduced.",
    needs_value=True,
  ),
  Case(
    "`chain(predict, polyak_sgd(...))`",
    lambda p: optax.chain(p(), optax.polyak_sgd(2.0)),
    fast_forward=CLOSE,
    per_step=CLOSE,
    note=NEEDS_VALUE,
    needs_value=True,
  ),
  Case(
    "`chain(predict, contrib.momo(...))`",
    lambda p: optax.chain(p(), contrib.momo(0.3)),
    fast_forward=CLOSE,
    per_step=CLOSE,
    note=NEEDS_VALUE,
    needs_value=True,
  ),
  Case(
    "`chain(predict, lbfgs(rate, linesearch=None))`",
    lambda p: optax.chain(p(), optax.lbfgs(0.3, linesearch=None)),
  ),
  Case(
    "`chain(predict, lbfgs())`",
    lambda p: optax.chain(p(), optax.lbfgs()),
    fast_forward=ERROR,
    per_step=ERROR,
    message="value_fn",
    note=SEARCHES,
  ),
  Case(
    "`scale_by_zoom_linesearch`, last",
    lambda p: optax.chain(
      p(), optax.sgd(1.0), optax.scale_by_zoom_linesearch(5)
    ),
    fast_forward=ERROR,
    per_step=ERROR,
    message="value_fn",
    note=SEARCHES,
  ),
  Case(
    "`scale_by_backtracking_linesearch`, last",
    lambda p: optax.chain(
      p(), optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)
    ),
    fast_forward=ERROR,
    per_step=ERROR,
    message="value_fn",
    note=SEARCHES,
  ),
)


class Accelerated(NamedTuple):
  """One optimizer with ``accelerate`` somewhere in it.

  Attributes:
    name: in Markdown.
    build: ``build(accelerate) -> tx``, where ``accelerate(base)`` makes it predict
      or, for the optimizer alone, returns the base.
    outcome: of a loop that calls ``update`` with true gradients.
    note: why, and what to do.
    message: of the error, a regular expression.
    every: true gradients to one step of the optimizer.
    needs_value: whether ``update`` is passed the loss.
  """

  name: str
  build: Callable[[Callable], Any]
  outcome: Outcome = EXACT
  note: str = ""
  message: str = ""
  every: int = 1
  needs_value: bool = False


ACCELERATED = (
  Accelerated("`accelerate(base)`", lambda a: a(base())),
  Accelerated(
    "`accelerate(chain(clip_by_global_norm(c), base))`",
    lambda a: a(optax.chain(optax.clip_by_global_norm(0.5), base())),
  ),
  Accelerated(
    "`chain(clip_by_global_norm(c), accelerate(base))`",
    lambda a: optax.chain(optax.clip_by_global_norm(0.5), a(base())),
    CLOSE,
    "Forecasts are of clipped gradients, and are not clipped again.",
  ),
  Accelerated(
    "`chain(accelerate(base), clip(c))`",
    lambda a: optax.chain(a(base()), optax.clip(0.05)),
    WRONG,
    "Cuts the window's way, not a step. Clip inside.",
  ),
  Accelerated(
    "`chain(accelerate(base), scale(c))`",
    lambda a: optax.chain(a(base()), optax.scale(0.1)),
    WRONG,
    "Scales the window's way, not a step. Scale inside.",
  ),
  Accelerated(
    "`MultiSteps(accelerate(base), k)`",
    lambda a: multi_steps(a(base())),
    note="A window follows each group of k mini-steps.",
    every=2,
  ),
  Accelerated(
    "`apply_if_finite(accelerate(base), n)`",
    lambda a: optax.apply_if_finite(a(base()), 3),
    note="Better inside: a window that led to what is left out stays.",
  ),
  Accelerated(
    "`accelerate(apply_if_finite(base, n))`",
    lambda a: a(optax.apply_if_finite(base(), 3)),
  ),
  Accelerated(
    "`partition`, `accelerate` in every group",
    lambda a: optax.partition(
      {"x": a(base()), "y": a(optax.adam(0.1))}, LABELS
    ),
    CLOSE,
    "Each group's window moves its own parameters only. Better outside:"
    " `accelerate(partition(...))`.",
  ),
  Accelerated(
    "`partition`, the other group frozen",
    lambda a: optax.partition(
      {"x": a(base()), "y": optax.set_to_zero()}, LABELS
    ),
    note="Keeps no history for frozen parameters.",
  ),
  Accelerated(
    "`accelerate(partition(...))`",
    lambda a: a(optax.partition({"x": base(), "y": optax.adam(0.1)}, LABELS)),
  ),
  Accelerated(
    "`chain(masked(accelerate(base), m), freeze(not m))`",
    lambda a: optax.chain(
      optax.masked(a(base()), ONLY_W),
      optax.masked(optax.set_to_zero(), ONLY_B),
    ),
    note="Keeps no history for frozen parameters.",
  ),
  Accelerated(
    "`accelerate(chain(base, freeze(m)))`",
    lambda a: a(optax.chain(base(), optax.masked(optax.set_to_zero(), ONLY_B))),
  ),
  Accelerated(
    "`inject_hyperparams(accelerate(base))`",
    lambda a: optax.inject_hyperparams(
      lambda learning_rate: a(optax.sgd(learning_rate))
    )(learning_rate=0.3),
  ),
  Accelerated(
    "`accelerate(inject_hyperparams(base))`",
    lambda a: a(optax.inject_hyperparams(optax.sgd)(learning_rate=0.3)),
  ),
  Accelerated(
    "`flatten(accelerate(base))`",
    lambda a: optax.flatten(a(base())),
    note="For [many small arrays](performance.md#many-small-arrays).",
  ),
  Accelerated(
    "`accelerate(flatten(base))`", lambda a: a(optax.flatten(base()))
  ),
  Accelerated(
    "`named_chain(('a', accelerate(base)))`",
    lambda a: optax.named_chain(("a", a(base()))),
  ),
  Accelerated(
    "`accelerate(chain(base, keep_params_nonnegative()))`",
    lambda a: a(optax.chain(base(), optax.keep_params_nonnegative())),
  ),
  Accelerated(
    "`accelerate(chain(add_decayed_weights(c), base))`",
    lambda a: a(optax.chain(optax.add_decayed_weights(0.1), base())),
  ),
  Accelerated(
    "`conditionally_mask(accelerate(base), f)`",
    lambda a: optax.conditionally_mask(a(base()), two_of_three),
    CLOSE,
    "Where f is false that true gradient is lost, as without.",
  ),
  Accelerated(
    "`accelerate(conditionally_mask(base, f))`",
    lambda a: a(optax.conditionally_mask(base(), two_of_three)),
  ),
  Accelerated(
    "`accelerate(contrib.schedule_free(base, ...))`",
    lambda a: a(contrib.schedule_free(optax.sgd(0.3), 0.3, b1=0.9)),
  ),
  Accelerated(
    "`accelerate(contrib.mechanize(base))`",
    lambda a: a(contrib.mechanize(optax.sgd(1.0), s_init=0.1)),
  ),
  Accelerated(
    "`contrib.split_real_and_imaginary(accelerate(base))`",
    lambda a: contrib.split_real_and_imaginary(a(base())),
  ),
  Accelerated(
    "`accelerate(chain(base, contrib.reduce_on_plateau()))`",
    lambda a: a(optax.chain(base(), contrib.reduce_on_plateau(patience=9))),
    note="Patience counts true gradients. Pass `value=loss`.",
    needs_value=True,
  ),
  Accelerated(
    "`accelerate(polyak_sgd(...))`, `contrib.momo`",
    lambda a: a(optax.polyak_sgd(2.0)),
    CLOSE,
    "Pass `value=loss`: the last known loss at predicted steps.",
    needs_value=True,
  ),
  Accelerated(
    "`accelerate(lbfgs(rate, linesearch=None))`",
    lambda a: a(optax.lbfgs(0.3, linesearch=None)),
  ),
  Accelerated(
    "`accelerate(lbfgs())`, other line searches",
    lambda a: a(optax.lbfgs()),
    ERROR,
    SEARCHES,
    message="searches along a line",
  ),
  Accelerated(
    "`accelerate(accelerate(base))`",
    lambda a: a(a(base())),
    ERROR,
    "It predicts already.",
    message="predicts gradients already",
  ),
)
