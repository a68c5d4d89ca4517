"""Wall time as a ratio: in one process, with the contestants taking turns."""

from collections.abc import Callable
import re
import statistics
import time

import jax


def interleaved(
  contestants: dict[str, Callable[[], object]], rounds: int = 9
) -> dict[str, list[float]]:
  """Seconds per call, every contestant once per round after one warm-up."""
  for call in contestants.values():
    jax.block_until_ready(call())
  seconds = {name: [] for name in contestants}
  for _ in range(rounds):
    for name, call in contestants.items():
      begun = time.perf_counter()
      jax.block_until_ready(call())
      seconds[name].append(time.perf_counter() - begun)
  return seconds


def ratio(seconds: dict[str, list[float]], ours: str, theirs: str) -> float:
  """The median over rounds of one contestant's time over another's."""
  pairs = zip(seconds[ours], seconds[theirs], strict=True)
  return statistics.median(a / b for a, b in pairs)


class Program:
  """A compiled function with what the compiler says of it.

  Attributes:
    compile_s: seconds to lower and compile.
    temp_bytes: temporary memory of the program.
  """

  def __init__(self, function, *args, donate: tuple[int, ...] = ()):
    begun = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=donate).lower(*args)
    self._compiled = lowered.compile()
    self.compile_s = time.perf_counter() - begun
    self.temp_bytes = self._compiled.memory_analysis().temp_size_in_bytes

  def __call__(self, *args):
    """Runs the compiled program."""
    return self._compiled(*args)

  def copies(self, elements: int) -> int:
    """Copies of arrays of at least `elements` entries in the program."""
    text = self._compiled.as_text()
    shapes = re.findall(r"= \w+\[([\d,]+)\]\S* copy\(", text)
    return sum(_elements(shape) >= elements for shape in shapes)


def _elements(shape: str) -> int:
  count = 1
  for size in shape.split(","):
    count *= int(size)
  return count
