"""Functions that are linear in trees, and the same for every element of them.

The update of SGD with momentum is one: each element of each array becomes the same sum
of the gradient's and the buffer's elements. What it makes of sums of known trees then
follows from their weights, without a look at the trees.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from optax_predict.core import elementwise
from optax_predict.core.elementwise import Even
from optax_predict.core.elementwise import NotAlikeError
from optax_predict.core.elementwise import take_number
from optax_predict.core.elementwise import Tree


def act_on_sums(
  function: Callable[..., Any], args: tuple[Any, ...], like: Any
) -> elementwise.Stands | None:
  """How a function of trees, and of other arrays, acts on sums of such trees.

  Weights ``[n]``, of the trees' dtype, stand for a sum of n trees.

  Args:
    function: of ``args``. It is traced once.
    args: what it would be called with, or shapes. Every part of them that has the
      structure, shapes and dtypes of ``like`` is one of the trees; all else is
      arrays that the function may use as it likes.
    like: a tree of real arrays of one dtype.

  Returns:
    ``None`` where the function is not linear in the trees taken together, treats
    elements or arrays of a tree in different ways, or changes their dtype.
  """
  return elementwise.stand_in(function, args, like, _combine_weights)


def _combine_weights(eqn, operands):
  name = eqn.primitive.name
  dtypes = {v.aval.dtype for v in (*eqn.outvars, *eqn.invars)}
  if name == "select_n":
    dtypes = {v.aval.dtype for v in eqn.outvars}
  if len(dtypes) > 1:
    raise NotAlikeError
  if name in ("add", "add_any"):
    return _add(*operands)
  if name == "sub":
    return _add(operands[0], _multiply(operands[1], -1))
  if name == "mul":
    return _multiply(*operands)
  if name == "div":
    return _divide(*operands)
  if name == "neg":
    return _multiply(operands[0], -1)
  if name == "select_n":
    return _select(*operands)
  if name in elementwise.COPIES or (
    name == "integer_pow" and eqn.params["y"] == 1
  ):
    return operands[0]
  raise NotAlikeError


def _add(x, y):
  if _is_zero(y):
    return x
  if _is_zero(x):
    return y
  if isinstance(x, Tree) and isinstance(y, Tree):
    return Tree(x.value + y.value)
  raise NotAlikeError


def _is_zero(x):
  number = x.number if isinstance(x, Even) else x
  return isinstance(number, np.generic) and number == 0


def _multiply(x, y):
  if isinstance(y, Tree):
    x, y = y, x
  if not isinstance(x, Tree):
    return Even(jnp.multiply(take_number(x), take_number(y)))
  return Tree(x.value * take_number(y))


def _divide(x, y):
  if not isinstance(x, Tree):
    return Even(jnp.divide(take_number(x), take_number(y)))
  return Tree(x.value / take_number(y))


def _select(which, *cases):
  if not all(isinstance(x, Tree) for x in cases):
    raise NotAlikeError
  chosen = cases[0].value
  for i, case in enumerate(cases[1:], 1):
    chosen = jnp.where(take_number(which) == i, case.value, chosen)
  return Tree(chosen)
