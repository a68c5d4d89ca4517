"""Tolerances and trees the tests share."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import optax_predict

# Of two that meet at an entry of the tests' cache, one may find half of it.
STRICT_PYTHON = (
  sys.executable,
  *("-W", "error"),
  *("-W", "ignore:Error reading persistent compilation cache entry"),
)
# Relative tolerance for sums of a few dozen terms.
RTOL = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 1e-5, "float64": 1e-12}


def assert_close(actual, desired, dtype="float32", scale=1.0):
  """Compares trees leaf by leaf, with the tolerance of ``dtype``."""
  rtol = RTOL[jnp.dtype(dtype).name] * scale
  actual_leaves, structure = jax.tree.flatten(actual)
  desired_leaves = structure.flatten_up_to(desired)
  for a, d in zip(actual_leaves, desired_leaves, strict=True):
    a, d = np.asarray(a, np.float64), np.asarray(d, np.float64)
    largest = np.max(np.abs(d), initial=0.0)
    np.testing.assert_allclose(a, d, rtol=rtol, atol=rtol * largest)


def assert_calls_agree(pairs, scale=1.0):
  """Of two forms that mean the same: what each call makes of the same state.

  Whole runs are led apart by rounding, which differs from processor to processor;
  one call is not. But where an expected error meets its limit, rounding says where
  the window ends: one call in ten may be of another length.

  Args:
    pairs: ``(params, opt_state)`` of a call by both forms, of all calls.
    scale: of the tolerance for parameters.
  """
  others = 0
  for (params, state), (wanted_params, wanted_state) in pairs:
    counts, wanted = (
      [int(s.total_steps), int(s.computed_steps), int(s.horizon)]
      for s in map(optax_predict.get_stats, (state, wanted_state))
    )
    if counts == wanted:
      assert_close(params, wanted_params, scale=scale)
    others += counts != wanted
  assert others <= len(pairs) // 10, (others, len(pairs))


def are_equal(tree, other):
  """Whether all leaves are, bit by bit."""
  leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
  return all(np.array_equal(a, b) for a, b in leaves)


def assert_finite(tree):
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    assert np.all(np.isfinite(np.asarray(leaf, np.float64))), path


def types(tree):
  """Shape, dtype and weak type of every leaf, with the structure."""
  leaves, structure = jax.tree.flatten(tree)
  return structure, [
    (x.shape, x.dtype, getattr(x, "weak_type", False)) for x in leaves
  ]


def nested(values, dtype="float32"):
  """Packs 7 numbers into a nested tree with a scalar and a None."""
  v = [jnp.asarray(values[i], dtype) for i in range(7)]
  return {
    "layer": {"kernel": jnp.stack(v[:4]).reshape(2, 2), "bias": v[4]},
    "rest": (jnp.stack(v[5:]), None, jnp.zeros((0, 3), dtype)),
  }


def flat(tree):
  """The inverse of ``nested``, as float64."""
  leaves = [
    tree["layer"]["kernel"],
    tree["layer"]["bias"],
    tree["rest"][0],
  ]
  return np.concatenate([np.asarray(x, np.float64).ravel() for x in leaves])


def skipped(gradients, opt_state):
  """What a loop hands over that evaluates a gradient only when one is due."""
  is_due = optax_predict.should_compute_full(opt_state)
  return jax.tree.map(
    lambda g: jnp.where(is_due, g, jnp.zeros_like(g)), gradients
  )


def x64(enabled):
  """Double precision inside a ``with``; jax moved it in version 0.8."""
  if hasattr(jax, "enable_x64"):
    return jax.enable_x64(enabled)
  from jax import experimental

  return experimental.enable_x64(enabled)
