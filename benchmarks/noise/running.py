"""Many runs at once: methods x rates x seeds as the rows of one matrix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.noise import plan
from benchmarks.noise import tasks

# Rows that are differentiated together: what stays in the processor's cache.
_TOGETHER = 8


class Program:
  """One compiled loop for a setting and a set of methods.

  Schedules, rates, seeds and the number of steps are data. The n-th batch of a
  seed is the same for every method, rate and length.
  """

  def __init__(self, name: str, size: int, base: str, methods: tuple[str, ...]):
    self.task, self._size = tasks.get(name), size
    self.methods = methods
    self._base = plan.base(base)
    self._run = jax.jit(self._loop)

  def _transformation(self, method, rate, schedule, steps):
    follow = lambda count: rate * plan.shape(schedule, count, steps)  # noqa: E731
    return plan.METHODS[method].make(self._base, follow, steps)

  def _gradients(self, params, batches):
    """Of rows in the order method, rate, seed."""
    flat = params.reshape(-1, params.shape[-1])
    seeds = len(jax.tree.leaves(batches)[0])
    which = np.arange(len(flat)) % seeds
    gradient = jax.grad(self.task.loss)

    def of_row(row):
      x, i = row
      return gradient(x, jax.tree.map(lambda leaf: leaf[i], batches))

    found = jax.lax.map(of_row, (flat, which), batch_size=_TOGETHER)
    return found.reshape(params.shape)

  def _judge(self, params):
    loss = lambda x: self.task.loss(x, self.task.judge)  # noqa: E731
    return jax.lax.map(loss, params)

  def _loop(self, rates, schedules, seeds, steps):
    """Final losses by row, each of (rates, seeds)."""
    keys = jax.vmap(jax.random.key)(seeds)
    starts = jax.vmap(lambda k: self.task.init(jax.random.fold_in(k, 0)))(keys)
    tiled = jnp.tile(starts, (rates.shape[1], 1))
    rates = jnp.repeat(rates, len(seeds), axis=1)
    each = list(enumerate(self.methods))
    make = lambda i, m, r: self._transformation(m, r, schedules[i], steps)  # noqa: E731

    def begin(i, m):
      return jax.vmap(lambda r, x: make(i, m, r).init(x))(rates[i], tiled)

    def step(i, m, params, state, gradients):
      def one(rate, x, s, g):
        updates, s = make(i, m, rate).update(g, s, x)
        return x + updates, s

      return jax.vmap(one)(rates[i], params, state, gradients)

    def body(t, carry):
      params, states = carry
      draw = lambda key: self.task.draw(  # noqa: E731
        jax.random.fold_in(key, t + 1), self._size
      )
      gradients = self._gradients(params, jax.vmap(draw)(keys))
      pairs = [step(i, m, params[i], states[i], gradients[i]) for i, m in each]
      return jnp.stack([x for x, _ in pairs]), [s for _, s in pairs]

    params = jnp.stack([tiled] * len(each))
    states = [begin(i, m) for i, m in each]
    params, states = jax.lax.fori_loop(0, steps, body, (params, states))
    found = {}
    for i, m in each:
      read = jax.vmap(plan.METHODS[m].read)(states[i], params[i])
      found |= {m + suffix: x for suffix, x in read.items()}
    judged = self._judge(jnp.concatenate(list(found.values())))
    return dict(zip(found, judged.reshape(len(found), -1, len(seeds))))

  def losses(
    self,
    rates: dict[str, list[float]],
    schedule: str,
    seeds: tuple[int, ...],
    steps: int,
  ) -> dict[str, np.ndarray]:
    """Final losses by row, each of (rates, seeds)."""
    table = jnp.asarray([rates[m] for m in self.methods], jnp.float32)
    own = [
      plan.SHAPES.index(plan.METHODS[m].schedule or schedule)
      for m in self.methods
    ]
    found = self._run(table, jnp.asarray(own), jnp.asarray(seeds), steps)
    return {row: np.asarray(x) for row, x in found.items()}


@functools.lru_cache(1)
def program(
  name: str, size: int, base: str, methods: tuple[str, ...]
) -> Program:
  """The last program is kept, so that lengths and schedules share it."""
  return Program(name, size, base, methods)
