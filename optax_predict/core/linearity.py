"""How a function acts on sums of trees, where it is linear and the same everywhere.

The update of SGD with momentum is: each element of each array becomes the same sum of
the gradient's and the buffer's elements. What it makes of sums of known trees is then
known from their weights, without a look at the trees. Whether a function is of this
kind is read off its traced program, not guessed from its name.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np

from optax_predict.core import checks

# A program inside of a program, which is run as if it stood there.
_CALLS = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call")


class OnSums(NamedTuple):
  """A linear function on the weights of sums, in the place of trees.

  Attributes:
    apply: ``apply(*args)``, with the weights ``[n]`` of a sum in the place of every
      tree; returns what the function returns, with weights likewise. The weights
      are of one dtype, that of the trees.
    is_read: whether each of the arguments is read at all.
  """

  apply: Callable[..., Any]
  is_read: tuple[bool, ...]


class _Sum(NamedTuple):
  """Stands for every array of a tree: each is the same sum."""

  weights: Any


class _Even(NamedTuple):
  """An array of one number throughout."""

  number: Any


class _NotLinearError(Exception):
  """The program does something else with a tree."""


def is_tree(x: Any, like: Any) -> bool:
  """Whether something is one of the trees that sums are made of."""
  if not checks.is_like(x, like):
    return False
  leaves = zip(jax.tree.leaves(x), jax.tree.leaves(like), strict=True)
  return all(a.dtype == b.dtype for a, b in leaves)


def act_on_sums(
  function: Callable[..., Any], args: tuple[Any, ...], like: Any
) -> OnSums | None:
  """How a function of trees, and of other arrays, acts on sums of such trees.

  Args:
    function: of ``args``. It is traced once.
    args: what it would be called with. Every part of them that has the structure,
      shapes and dtypes of ``like`` is one of the trees; all else is arrays that the
      function may use as it likes.
    like: a tree of real arrays of one dtype.

  Returns:
    ``None`` where the function is not linear in the trees taken together, treats
    elements or arrays of a tree in different ways, or changes their dtype.
  """
  closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
  arrays = jax.tree.leaves(like)
  places, treedef = _split(args, like)
  result_places, result_treedef = _split(shapes, like)

  def apply(*parts):
    values = []
    for place, part in zip(places, treedef.flatten_up_to(parts)):
      values += [_Sum(part)] * len(arrays) if is_tree(place, like) else [part]
    program = _Program({x.shape for x in arrays}, arrays[0].dtype)
    results = iter(program.run(closed.jaxpr, closed.consts, values))
    return jax.tree.unflatten(
      result_treedef,
      [_gather(place, like, results) for place in result_places],
    )

  one = jax.ShapeDtypeStruct((1,), arrays[0].dtype)
  weights = [one if is_tree(place, like) else place for place in places]
  try:
    jax.eval_shape(apply, *jax.tree.unflatten(treedef, weights))
  except _NotLinearError:
    return None
  return OnSums(apply, _find_read(closed.jaxpr, args))


def _split(tree, like):
  return jax.tree.flatten(tree, is_leaf=lambda x: is_tree(x, like))


def _gather(place, like, results):
  """One result, of as many arrays as there are in its place."""
  values = [next(results) for _ in jax.tree.leaves(place)]
  first = values[0]
  if is_tree(place, like):
    # The same object: every array of the tree was treated alike.
    if not isinstance(first, _Sum) or any(x is not first for x in values):
      raise _NotLinearError
    return first.weights
  if isinstance(first, (_Sum, _Even)):
    raise _NotLinearError
  return first


def _find_read(jaxpr, args):
  read = {id(v) for eqn in jaxpr.eqns for v in eqn.invars}
  read |= {id(v) for v in jaxpr.outvars}
  variables = iter(jaxpr.invars)
  return tuple(
    any([id(next(variables)) in read for _ in jax.tree.leaves(arg)])
    for arg in args
  )


class _Program:
  """Runs a traced program on sums.

  What was computed once from the same operands is not computed again: two arrays
  of a tree were treated alike where they come out as the same object.
  """

  def __init__(self, shapes, dtype):
    self._shapes = shapes
    self._dtype = dtype
    # By operation and operands, which are kept so that no other takes their place.
    self._known: dict[Any, tuple[Any, Any]] = {}

  def run(self, jaxpr, consts, args):
    values = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, args))

    def read(v):
      if isinstance(v, core.Literal):
        return np.asarray(v.val)[()]
      return values[v]

    for eqn in jaxpr.eqns:
      operands = [read(v) for v in eqn.invars]
      values |= dict(zip(eqn.outvars, self._step(eqn, operands)))
    return [read(v) for v in jaxpr.outvars]

  def _step(self, eqn, operands):
    if eqn.effects:
      raise _NotLinearError
    if eqn.primitive.name in _CALLS:
      inner = eqn.params.get("jaxpr") or eqn.params["call_jaxpr"]
      return self.run(inner.jaxpr, inner.consts, operands)
    key = (eqn.primitive, _freeze(eqn.params), *map(_identify, operands))
    if key not in self._known:
      self._known[key] = operands, self._compute(eqn, operands)
    return self._known[key][1]

  def _compute(self, eqn, operands):
    if any(isinstance(x, (_Sum, _Even)) for x in operands):
      return self._combine(eqn, operands)
    shape = eqn.outvars[0].aval.shape
    is_spread = eqn.primitive.name == "broadcast_in_dim"
    if is_spread and not np.ndim(operands[0]) and shape in self._shapes:
      return [_Even(operands[0])]
    found = eqn.primitive.bind(*operands, **eqn.params)
    return found if eqn.primitive.multiple_results else [found]

  def _combine(self, eqn, operands):
    name = eqn.primitive.name
    if any(x.aval.dtype != self._dtype for x in eqn.outvars):
      raise _NotLinearError
    if name in ("add", "add_any"):
      return [_add(*operands)]
    if name == "sub":
      return [_add(operands[0], _multiply(operands[1], -1))]
    if name == "mul":
      return [_multiply(*operands)]
    if name == "div":
      return [_divide(*operands)]
    if name == "neg":
      return [_multiply(operands[0], -1)]
    if name == "select_n":
      return [_select(*operands)]
    is_same = name in ("copy", "copy_p", "convert_element_type")
    if is_same or (name == "integer_pow" and eqn.params["y"] == 1):
      return operands
    raise _NotLinearError


def _identify(x):
  """Equal for the same operand only."""
  return (x.dtype, x.item()) if isinstance(x, np.generic) else id(x)


def _freeze(params):
  try:
    frozen = tuple(sorted(params.items()))
    hash(frozen)
  except TypeError:
    return id(params)
  return frozen


def _is_zero(x):
  number = x.number if isinstance(x, _Even) else x
  return isinstance(number, np.generic) and number == 0


def _number(x):
  """The one number of an operand."""
  number = x.number if isinstance(x, _Even) else x
  if isinstance(x, _Sum) or np.ndim(number) > 0:
    raise _NotLinearError
  return number


def _add(x, y):
  if _is_zero(y):
    return x
  if _is_zero(x):
    return y
  if isinstance(x, _Sum) and isinstance(y, _Sum):
    return _Sum(x.weights + y.weights)
  raise _NotLinearError


def _multiply(x, y):
  if isinstance(y, _Sum):
    x, y = y, x
  if not isinstance(x, _Sum):
    return _Even(jnp.multiply(_number(x), _number(y)))
  return _Sum(x.weights * _number(y))


def _divide(x, y):
  if not isinstance(x, _Sum):
    return _Even(jnp.divide(_number(x), _number(y)))
  return _Sum(x.weights / _number(y))


def _select(which, *cases):
  if np.ndim(_number(which)) > 0 or not all(isinstance(x, _Sum) for x in cases):
    raise _NotLinearError
  chosen = cases[0].weights
  for i, case in enumerate(cases[1:], 1):
    chosen = jnp.where(_number(which) == i, case.weights, chosen)
  return _Sum(chosen)
