"""Checks of arguments and trees: errors that say what to do."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_count(name: str, value: Any, minimum: int = 1) -> int:
  """Returns ``value`` as an int, or raises a ValueError that names it."""
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    raise ValueError(f"{name} must be an integer, got {value!r}.")
  if value < minimum:
    raise ValueError(f"{name} must be at least {minimum}, got {value!r}.")
  return int(value)


def check_number(
  name: str,
  value: Any,
  low: float = -math.inf,
  high: float = math.inf,
  closed: bool = True,
) -> Any:
  """Returns ``value``, or raises a ValueError when it is outside the range.

  A traced value (under ``optax.inject_hyperparams``) cannot be read when the
  transformation is built, and passes unchecked.
  """
  if isinstance(value, jax.core.Tracer):
    return value
  try:
    # Text is no number, though float() would read it.
    number = float(0 + value)
  except (TypeError, ValueError):
    raise ValueError(f"{name} must be a number, got {value!r}.") from None
  inside = low <= number <= high if closed else low < number < high
  if not (math.isfinite(number) and inside):
    bounds = f"[{low:g}, {high:g}]" if closed else f"({low:g}, {high:g})"
    wanted = "finite" if math.isinf(high - low) and low < 0 else f"in {bounds}"
    raise ValueError(f"{name} must be {wanted}, got {value!r}.")
  return value


def check_sequence(name: str, value: Any) -> tuple[Any, ...]:
  """Returns ``value`` as a tuple, or raises a ValueError that names it."""
  try:
    return tuple(value)
  except TypeError:
    raise ValueError(f"{name} must be a sequence, got {value!r}.") from None


def check_instance(name: str, value: Any, kind: type, how: str) -> None:
  """Raises a TypeError unless ``value`` is a ``kind``; ``how`` is the remedy."""
  if not isinstance(value, kind):
    got = type(value).__name__ if hasattr(value, "_fields") else repr(value)
    raise TypeError(
      f"{name} must be a {kind.__name__}, got {got}. Build one with {how}, and"
      f" pass it as {name}=."
    )


def check_dtype(name: str, value: Any) -> Any:
  """Returns ``value`` as a floating point dtype, or ``None`` as it is."""
  if value is None:
    return None
  try:
    dtype = jnp.dtype(value)
  except TypeError:
    raise ValueError(f"{name} must be a dtype, got {value!r}.") from None
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f"{name} must be a floating point dtype, got {value!r}.")
  if jax.dtypes.canonicalize_dtype(dtype) != dtype:
    raise ValueError(
      f"{name} is {dtype}, which JAX makes"
      f" {jax.dtypes.canonicalize_dtype(dtype)} of. Set jax_enable_x64, or ask for"
      " that."
    )
  return dtype


def check_present(name: str, value: Any) -> None:
  """Raises a ValueError when parameters are needed and were not passed."""
  if value is None:
    raise ValueError(
      f"{name} is missing: this predictor looks at how far the parameters"
      " moved. Pass them: update(gradients, state, params),"
      " fast_forward(tx, params, state)."
    )


def check_params(params: Any) -> None:
  """Raises a TypeError that names the first leaf a gradient cannot move."""
  for where in _not_inexact(params):
    raise TypeError(
      f"parameter {where}, but gradients can only be predicted for floating"
      " point or complex parameters. Leave it out with optax.masked or"
      " optax.partition, or cast it. Of an Equinox module pass"
      " eqx.filter(module, eqx.is_inexact_array)."
    )


def check_gradients(gradients: Any) -> None:
  """Raises a TypeError that names the first leaf that is no gradient."""
  for where in _not_inexact(gradients):
    raise TypeError(
      f"gradients: leaf {where}, but a gradient is floating point or complex."
      " Cast it, or leave the parameter out with optax.masked or"
      " optax.partition."
    )


def check_precision(gradients: Any, widest: Any) -> None:
  """Raises a ValueError for a gradient that is wider than its parameter's history.

  Args:
    gradients: the tree.
    widest: the real dtype that the state was made in, float32 or float64.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    dtype = jnp.result_type(leaf)
    if jnp.finfo(dtype).bits > jnp.finfo(widest).bits:
      raise ValueError(
        f"gradients: leaf {_name(path)} has dtype {dtype}, but the parameters"
        f" that optimizer.init was given go to {jnp.dtype(widest)} at most. Cast"
        " the gradients, or call optimizer.init with parameters of that dtype."
      )


def check_like(name: str, tree: Any, like: Any) -> None:
  """Raises a ValueError where ``tree`` differs from the state's ``like``."""
  got, wanted = _shapes(tree), _shapes(like)
  which = "gradients of" if name == "gradients" else "parameters like"
  hint = (
    f"Pass {which} those that optimizer.init was given, or call"
    " optimizer.init(params) again."
  )
  for path in sorted(set(got) ^ set(wanted)):
    where = "is not in the state" if path in got else "is missing"
    raise ValueError(f"{name}: leaf {path} {where}. {hint}")
  for path, shape in got.items():
    if shape != wanted[path]:
      raise ValueError(
        f"{name}: leaf {path} has shape {shape}, but the state has shape"
        f" {wanted[path]}. {hint}"
      )
  structure: Any = jax.tree.structure(tree)
  wanted_structure: Any = jax.tree.structure(like)
  if structure != wanted_structure:
    raise ValueError(
      f"{name}: the tree is built from other containers than the state's:"
      f" {structure} against {wanted_structure}. {hint}"
    )


def check_state(state: Any, expected: Any) -> None:
  """Raises a ValueError for a state that another configuration made."""
  hint = (
    "Pass the state that this optimizer's init returned, or call"
    " optimizer.init(params) again. A checkpoint of optax_predict 0.1 holds"
    " another state, which this version does not read: init, and go on from its"
    " parameters."
  )
  if not isinstance(state, type(expected)):
    raise ValueError(
      f"state: expected a {type(expected).__name__}, got"
      f" {type(state).__name__}. {hint}"
    )
  for name, got, wanted in zip(state._fields, state, expected, strict=True):
    structure: Any = jax.tree.structure(got)
    if structure != jax.tree.structure(wanted) or _shapes(got) != _shapes(
      wanted
    ):
      raise ValueError(
        "state: it was made with another forecaster, memory or horizon than"
        f" this optimizer's, or for other parameters ({name} differs). {hint}"
      )
    pairs = zip(
      jax.tree_util.tree_leaves_with_path(got),
      jax.tree.leaves(wanted),
      strict=True,
    )
    for (path, leaf), other in pairs:
      if jnp.result_type(leaf) != other.dtype:
        raise ValueError(
          f"state: its {name}{jax.tree_util.keystr(path)} has dtype"
          f" {jnp.result_type(leaf)}, but init makes it {other.dtype} for these"
          " parameters: they or accumulator_dtype had another dtype then. Cast"
          " the parameters back, or call optimizer.init(params) again."
        )


def check_optimizer(name: str, tx: Any, how: str) -> None:
  """Raises a TypeError unless ``tx`` has optax's ``init`` and ``update``."""
  if not callable(getattr(tx, "init", None)) or not callable(
    getattr(tx, "update", None)
  ):
    raise TypeError(
      f"{name} must be the optimizer, an optax.GradientTransformation, got"
      f" {type(tx).__name__}. Call {how}."
    )


def check_callable(name: str, value: Any, how: str) -> None:
  """Raises a TypeError unless ``value`` can be called."""
  if not callable(value):
    raise TypeError(
      f"{name} must be a function, got {type(value).__name__}. Call {how}."
    )


def _not_inexact(tree):
  """Which leaves are neither floating point nor complex, and what they are."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    try:
      dtype = jnp.result_type(leaf)
    except TypeError:  # Text, or any other object.
      yield f"{_name(path)} is {leaf!r}"
      continue
    if not jnp.issubdtype(dtype, jnp.inexact):
      yield f"{_name(path)} is of dtype {dtype}"


def is_all_arrays(tree: Any) -> bool:
  """Whether every leaf is an array or a number: what jit makes arrays of.

  A truth value of Python is none. It may choose what is traced.
  """
  return all(
    isinstance(x, (jax.Array, np.ndarray, np.generic, numbers.Number))
    and not isinstance(x, bool)
    for x in jax.tree.leaves(tree)
  )


def is_like(tree: Any, like: Any) -> bool:
  """Whether two trees have the same leaves, of the same shapes."""
  return _shapes(tree) == _shapes(like)


def _shapes(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {_name(path): jnp.shape(leaf) for path, leaf in leaves}


def _name(path):
  return jax.tree_util.keystr(path) or "(the only one)"
