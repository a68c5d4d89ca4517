"""Wall time as a ratio: in one process, with the contestants taking turns."""

from collections.abc import Callable
from collections.abc import Iterable
import pathlib
import re
import statistics
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp


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


def bandwidth(megabytes: int = 1024, rounds: int = 9) -> float:
  """Bytes per second that the device reads and writes, at best: of a copy."""
  array = jnp.zeros(megabytes * 2**18, jnp.float32)
  size = array.nbytes
  # In place: on a CPU a fresh array is mapped page by page, which takes longer.
  copy = Carried(Program(lambda x: (x + 1,), array, donate=(0,)), (array,))
  return 2 * size / min(interleaved({"copy": copy}, rounds)["copy"])


def host_reads(call: Callable[[], object]) -> int:
  """How often the device hands a value to the host during one call.

  The predicate of a loop or of a cond, where the host decides. None on CPU, where
  device and host are one.
  """
  if jax.default_backend() == "cpu":
    return 0
  jax.block_until_ready(call())
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      jax.block_until_ready(call())
    (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
    return copies_to_host(jax.profiler.ProfileData.from_file(str(file)).planes)


def copies_to_host(planes: Iterable[Any]) -> int:
  """Of the events in a profile, those that copy from a GPU to the host."""
  return sum(
    "MemcpyD2H" in event.name
    for plane in planes
    if plane.name.startswith("/device")
    for line in plane.lines
    for event in line.events
  )


class Carried:
  """Calls a program on what it returned before, so that it may donate."""

  def __init__(self, program, carry, *constants, calls: int = 1):
    self._program, self._carry, self._constants = program, carry, constants
    self._calls = calls

  def __call__(self):
    """Runs it ``calls`` times more, none of which is waited for."""
    for _ in range(self._calls):
      self._carry = self._program(*self._carry, *self._constants)
    return self._carry


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
