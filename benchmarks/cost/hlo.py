"""What a compiled program sends between devices and runs, read from its HLO text."""

from collections.abc import Iterator
import math
import re
from typing import NamedTuple

_KINDS = (
  "all-gather",
  "all-reduce",
  "all-to-all",
  "collective-broadcast",
  "collective-permute",
  "ragged-all-to-all",
  "reduce-scatter",
)
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_CALLED = re.compile(
  r"\b(body|condition|to_apply|calls|true_computation|false_computation)"
  r"=%?([\w.-]+)"
)
_CALLED_LISTS = re.compile(
  r"\b(branch_computations|called_computations|calls)=\{([^}]*)\}"
)


# What names or hands on, and runs nothing.
_PLUMBING = (
  "after-all",
  "bitcast",
  "constant",
  "get-tuple-element",
  "opt-barrier",
  "parameter",
  "tuple",
)
_INSIDE = ("while", "conditional", "call")


class Collective(NamedTuple):
  """One instruction that moves data between devices.

  Attributes:
    kind: its opcode, such as ``all-reduce``.
    shapes: of the arrays each device receives.
    bytes: the larger of what one device puts in and what it receives. No
      factor for how a network routes it.
    path: the loops and branches around it, outermost first: ``while`` for a
      loop's body, ``while condition``, and ``branch 0``, ``branch 1`` of a
      conditional (a ``lax.cond`` has the false one first).
  """

  kind: str
  shapes: tuple[tuple[int, ...], ...]
  bytes: int
  path: tuple[str, ...]


class _Instruction(NamedTuple):
  opcode: str
  type: str
  operands: tuple[str, ...]
  attributes: str


def collectives(text: str) -> list[Collective]:
  """All collectives of a program, each as often as it is called.

  Args:
    text: ``jitted.lower(...).compile().as_text()``.

  Returns:
    One :class:`Collective` each; a loop's body counts once.

  Raises:
    ValueError: if there is no entry computation, or a collective is split into
      a start and a done (as on GPU and TPU), whose bytes are not counted here.
  """
  entry, computations = _parse(text)
  return list(_walk(computations, entry, ()))


def count_operations(text: str) -> int:
  """Operations that one run of a program takes, each a kernel or a library's call.

  A loop's body and condition count once, of a conditional the longest branch.

  Args:
    text: ``jitted.lower(...).compile().as_text()``.
  """
  entry, computations = _parse(text)
  return _count(computations, entry)


def _count(computations, name):
  total = 0
  for instruction in computations[name].values():
    if instruction.opcode in _PLUMBING:
      continue
    if instruction.opcode not in _INSIDE:
      total += 1
      continue
    inner = [_count(computations, called) for called, _ in _called(instruction)]
    total += max(inner) if instruction.opcode == "conditional" else sum(inner)
  return total


def _parse(text):
  """Name of the entry computation, and name -> name -> instruction."""
  entry, computations, current = None, {}, None
  for line in text.splitlines():
    if header := _COMPUTATION.match(line):
      current = computations.setdefault(header[2], {})
      entry = header[2] if header[1] else entry
    elif current is not None and (found := _INSTRUCTION.match(line)):
      current[found[1]] = _instruction(found[2])
  if entry is None:
    raise ValueError(f"no entry computation in {text[:80]!r}.")
  return entry, computations


def _instruction(rest):
  end = _closing(rest) if rest.startswith("(") else rest.index(" ") - 1
  type_, rest = rest[: end + 1], rest[end + 1 :].lstrip()
  opcode, rest = rest.split("(", 1)
  end = _closing("(" + rest) - 1
  operands = tuple(re.findall(r"%([\w.-]+)", rest[:end]))
  return _Instruction(opcode, type_, operands, rest[end + 1 :])


def _closing(text):
  """Index of the bracket that closes the first one."""
  depth = 0
  for i, character in enumerate(text):
    depth += (character == "(") - (character == ")")
    if depth == 0:
      return i
  raise ValueError(f"unbalanced brackets in {text[:80]!r}.")


def _walk(computations, name, path) -> Iterator[Collective]:
  instructions = computations[name]
  for instruction in instructions.values():
    opcode = instruction.opcode
    if opcode.startswith(_KINDS):
      if opcode not in _KINDS:
        raise ValueError(f"{opcode} is asynchronous: compile for CPU.")
      received = _arrays(instruction.type)
      sent = [
        array
        for operand in instruction.operands
        for array in _arrays(instructions[operand].type)
      ]
      yield Collective(
        opcode,
        tuple(shape for shape, _ in received),
        max(sum(size for _, size in received), sum(size for _, size in sent)),
        path,
      )
    for called, step in _called(instruction):
      yield from _walk(computations, called, path + step)


def _called(instruction):
  """The computations an instruction runs, with what they add to the path."""
  for attribute, name in _CALLED.findall(instruction.attributes):
    steps = {
      "body": ("while",),
      "condition": ("while condition",),
      "true_computation": ("branch 1",),
      "false_computation": ("branch 0",),
    }
    yield name, steps.get(attribute, ())
  for attribute, names in _CALLED_LISTS.findall(instruction.attributes):
    for i, name in enumerate(re.findall(r"%?([\w.-]+)", names)):
      is_branch = attribute == "branch_computations"
      yield name, (f"branch {i}",) if is_branch else ()


def _arrays(type_):
  """Shape and bytes of every array in a type."""
  found = []
  for name, bits, dimensions in _ARRAY.findall(type_):
    shape = tuple(int(n) for n in dimensions.split(",") if n)
    width = 8 if name == "pred" else int(bits)
    found.append((shape, math.ceil(math.prod(shape) * width / 8)))
  return found
