"""Functions of trees that treat every element of every array alike.

Adam's update is one: it may as well see all arrays as one vector. Whether a function is
of this kind is read off its traced program, not guessed from its name.
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
COPIES = ("copy", "copy_p", "convert_element_type")
# Operations whose result at an element is of that element of their operands alone.
_SUMS = {"add", "add_any", "sub", "mul", "div", "neg"}
_POWERS = {"sqrt", "rsqrt", "square", "integer_pow", "pow", "exp", "log"}
_BOUNDS = {"abs", "sign", "max", "min", "clamp", "is_finite"}
_CHOICES = {"select_n", "eq", "ne", "lt", "le", "gt", "ge"}
_ELEMENTWISE = {*COPIES, *_SUMS, *_POWERS, *_BOUNDS, *_CHOICES}


class Stands(NamedTuple):
  """A function that takes something else in the place of each tree.

  Attributes:
    apply: ``apply(*args)``, with what stands for them in the place of trees; returns
      what the function returns, likewise.
    is_read: whether each of the arguments is read at all.
  """

  apply: Callable[..., Any]
  is_read: tuple[bool, ...]


class Tree(NamedTuple):
  """What stands for an array of a tree.

  Attributes:
    value: the same object for all arrays of a tree that were treated alike.
    leaf: which array of the tree it is; arrays of one place only may meet.
  """

  value: Any
  leaf: int = 0


class Even(NamedTuple):
  """An array of one number throughout."""

  number: Any


class NotAlikeError(Exception):
  """The program does something else with a tree."""


def is_tree(x: Any, like: Any) -> bool:
  """Whether something is one of the trees: of the shapes and dtypes of ``like``."""
  if not checks.is_like(x, like):
    return False
  leaves = zip(jax.tree.leaves(x), jax.tree.leaves(like), strict=True)
  return all(jnp.result_type(a) == jnp.result_type(b) for a, b in leaves)


def map_trees(
  function: Callable[..., Any], tree: Any, like: Any, *others: Any
) -> Any:
  """Puts ``function(part, *parts)`` in the place of every tree in ``tree``.

  Other arrays are those of the last of ``others``, or of ``tree`` if there is none.
  """
  return jax.tree.map(
    lambda x, *parts: (
      function(x, *parts) if is_tree(x, like) else (x, *parts)[-1]
    ),
    tree,
    *others,
    is_leaf=lambda x: is_tree(x, like),
  )


def act_on_vectors(
  function: Callable[..., Any], args: tuple[Any, ...], like: Any
) -> Stands | None:
  """How a function of trees, and of other arrays, acts on trees that are one vector.

  A vector of all elements, in any order, stands for a tree.

  Args:
    function: of ``args``. It is traced once.
    args: what it would be called with, or shapes. Every part of them that has the
      structure, shapes and dtypes of ``like`` is one of the trees; all else is
      arrays that the function may use as it likes.
    like: a tree of arrays of one dtype.

  Returns:
    ``None`` where an element of a result comes of another element, or elements or
    arrays are treated in different ways.
  """
  return stand_in(function, args, like, _combine_vectors)


def stand_in(
  function: Callable[..., Any],
  args: tuple[Any, ...],
  like: Any,
  combine: Callable[[Any, list[Any]], Any],
) -> Stands | None:
  """A function on what stands for trees, each of them one array of any length.

  Args:
    function: as for :func:`act_on_vectors`.
    args: as there.
    like: as there.
    combine: ``combine(equation, operands) -> result`` of an equation of the traced
      program with a :class:`Tree` or an :class:`Even` among its operands, trees all
      of one leaf; which leaf the result says is not looked at.

  Returns:
    ``None`` where that raises :class:`NotAlikeError`, or arrays of a tree are treated
    in different ways.
  """
  closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
  arrays = jax.tree.leaves(like)
  places, treedef = _split(args, like)
  result_places, result_treedef = _split(shapes, like)

  def apply(*parts):
    values = []
    for place, part in zip(places, treedef.flatten_up_to(parts)):
      values += (
        [Tree(part, leaf) for leaf in range(len(arrays))]
        if is_tree(place, like)
        else [part]
      )
    program = _Program(combine, set(map(jnp.shape, arrays)))
    results = iter(program.run(closed.jaxpr, closed.consts, values))
    return jax.tree.unflatten(
      result_treedef,
      [_gather(place, like, results) for place in result_places],
    )

  one = jax.ShapeDtypeStruct((1,), jnp.result_type(arrays[0]))
  stands = [one if is_tree(place, like) else place for place in places]
  try:
    jax.eval_shape(apply, *jax.tree.unflatten(treedef, stands))
  except NotAlikeError:
    return None
  return Stands(apply, _find_read(closed.jaxpr, args))


def _split(tree, like):
  return jax.tree.flatten(tree, is_leaf=lambda x: is_tree(x, like))


def _gather(place, like, results):
  """One result, of as many arrays as there are in its place."""
  values = [next(results) for _ in jax.tree.leaves(place)]
  first = values[0]
  if is_tree(place, like):
    for leaf, x in enumerate(values):
      # The same object: every array of the tree was treated alike.
      if (
        not isinstance(x, Tree) or x.value is not first.value or x.leaf != leaf
      ):
        raise NotAlikeError
    return first.value
  if isinstance(first, (Tree, Even)):
    raise NotAlikeError
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
  """Runs a traced program on what stands for trees.

  What was computed once from the same operands is not computed again: two arrays
  of a tree were treated alike where their values come out as the same object.
  """

  def __init__(self, combine, shapes):
    self._combine = combine
    self._shapes = shapes
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
      raise NotAlikeError
    if eqn.primitive.name in _CALLS:
      inner = eqn.params.get("jaxpr") or eqn.params["call_jaxpr"]
      return self.run(inner.jaxpr, inner.consts, operands)
    leaves = {x.leaf for x in operands if isinstance(x, Tree)}
    if len(leaves) > 1:
      raise NotAlikeError
    key = (eqn.primitive, _freeze(eqn.params), *map(_identify, operands))
    if key not in self._known:
      self._known[key] = operands, self._compute(eqn, operands)
    return [
      x._replace(leaf=min(leaves)) if isinstance(x, Tree) else x
      for x in self._known[key][1]
    ]

  def _compute(self, eqn, operands):
    if any(isinstance(x, (Tree, Even)) for x in operands):
      return [self._combine(eqn, operands)]
    shape = eqn.outvars[0].aval.shape
    is_spread = eqn.primitive.name == "broadcast_in_dim"
    if is_spread and not np.ndim(operands[0]) and shape in self._shapes:
      return [Even(operands[0])]
    found = eqn.primitive.bind(*operands, **eqn.params)
    return found if eqn.primitive.multiple_results else [found]


def _identify(x):
  """Equal for the same operand only, of whichever leaf."""
  if isinstance(x, np.generic):
    return x.dtype, x.item()
  return (Tree, id(x.value)) if isinstance(x, Tree) else id(x)


def _freeze(params):
  try:
    frozen = tuple(sorted(params.items()))
    hash(frozen)
  except TypeError:
    return id(params)
  return frozen


def take_number(x: Any) -> Any:
  """The one number of an operand that stands for no tree."""
  number = x.number if isinstance(x, Even) else x
  if isinstance(x, Tree) or np.ndim(number) > 0:
    raise NotAlikeError
  return number


def _combine_vectors(eqn, operands):
  if eqn.primitive.name not in _ELEMENTWISE:
    raise NotAlikeError
  vectors = [x.value for x in operands if isinstance(x, Tree)]
  values = [
    x.value if isinstance(x, Tree) else take_number(x) for x in operands
  ]
  if not vectors:
    return Even(eqn.primitive.bind(*values, **eqn.params))
  values = [jnp.broadcast_to(x, vectors[0].shape) for x in values]
  return Tree(eqn.primitive.bind(*values, **eqn.params))
