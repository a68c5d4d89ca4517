import functools

import jax
from jax import flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import tasks
from benchmarks.tasks import cutest
from benchmarks.tasks import noisy

_CUTEST = ("ROSENBR", "HILBERTB", "CHNROSNB", "EXP2")


@functools.cache
def _value_and_gradient(task):
  x, unravel = flatten_util.ravel_pytree(task.init(0))
  fn = jax.jit(jax.value_and_grad(lambda x: task.loss(unravel(x))))
  return x, fn, *fn(x)


@pytest.mark.parametrize("name", tasks.names())
def test_task_is_finite_deterministic_and_not_solved_at_its_starts(name):
  task = tasks.get(name)
  x, fn, loss, gradient = _value_and_gradient(task)
  assert x.dtype == loss.dtype == gradient.dtype == jnp.float32
  assert loss.shape == ()
  assert jnp.isfinite(loss)
  assert jnp.all(jnp.isfinite(gradient))
  assert jnp.linalg.norm(gradient) > 1e-4
  again, same = fn(x)
  assert again == loss
  np.testing.assert_array_equal(same, gradient)
  for seed in (1, 2):
    other, _ = flatten_util.ravel_pytree(task.init(seed))
    assert other.shape == x.shape
    assert jnp.any(other != x)
    assert jnp.isfinite(fn(other)[0])


@pytest.mark.parametrize("name", tasks.names())
def test_a_short_step_against_the_gradient_descends(name):
  # Also a check of the gradient: the decrease is its squared norm times the
  # rate, to first order.
  x, fn, loss, gradient = _value_and_gradient(tasks.get(name))
  norm = jnp.linalg.norm(gradient)
  rates = jnp.logspace(-4, -1, 7) * jnp.maximum(jnp.linalg.norm(x), 1) / norm
  decreases = [loss - fn(x - r * gradient)[0] for r in rates]
  ratios = jnp.array(decreases) / (rates * norm**2)
  assert jnp.min(jnp.abs(ratios - 1)) < 0.25


def test_roles_are_disjoint_and_networks_are_in_both():
  tuning, reporting = tasks.names("tuning"), tasks.names("reporting")
  assert not set(tuning) & set(reporting)
  assert len(tuning) >= 8
  assert len(reporting) >= 14
  families = [
    {tasks.specs()[name].family for name in names}
    for names in (tuning, reporting)
  ]
  assert all("networks" in found for found in families)


def test_an_unknown_task_is_refused_with_the_known_ones():
  with pytest.raises(KeyError, match="quadratic_1e2"):
    tasks.get("nothing")


def test_the_cutest_list_follows_its_rule_on_names():
  assert len(cutest.NAMES) >= 60
  assert len({name[:5] for name in cutest.NAMES}) == len(cutest.NAMES)
  assert list(cutest.NAMES) == sorted(cutest.NAMES)


@pytest.mark.parametrize("name", _CUTEST)
def test_cutest_gradient_matches_differences(name):
  task = tasks.get(f"cutest/{name}")
  x, fn, loss, gradient = _value_and_gradient(task)
  assert 2 <= x.size <= 200
  assert loss.dtype == jnp.float32
  assert not jax.config.jax_enable_x64
  direction = gradient / jnp.linalg.norm(gradient)
  h = 3e-3 * jnp.linalg.norm(x)
  slope = (fn(x + h * direction)[0] - fn(x - h * direction)[0]) / (2 * h)
  np.testing.assert_allclose(slope, jnp.linalg.norm(gradient), rtol=0.02)


@pytest.mark.parametrize("name", noisy.names())
def test_batches_cover_an_epoch_and_the_last_size_is_everything(name):
  task = noisy.get(name)
  assert task.batch_sizes[-1] == task.size
  size = task.batch_sizes[0]
  rows = jax.tree.leaves(task.data)[0]
  seen = []
  for _, batch in zip(
    range(task.size // size), noisy.batches(task, size, 0), strict=False
  ):
    seen.append(jax.tree.leaves(batch)[0])
  seen = np.concatenate(seen)
  np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(rows, axis=0))


def test_noisy_batch_loss_averages_to_the_full_loss():
  task = noisy.get("noisy/digits_mlp")
  params = task.init(0)
  batches = zip(range(16), noisy.batches(task, 64, 3), strict=False)
  loss = jax.jit(task.loss)
  losses = [loss(params, batch) for _, batch in batches]
  np.testing.assert_allclose(
    np.mean(losses), loss(params, task.data), rtol=1e-5
  )
