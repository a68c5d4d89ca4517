"""Which rates, with and without prediction, and what a cell of them is called."""

from typing import NamedTuple

from benchmarks.methods import opponents

# Shares of the base's best rate. The two above 1 are the other side of the
# base's valley.
SHARES = {
  "1/1000": 1 / 1000,
  "1/100": 1 / 100,
  "1/30": 1 / 30,
  "1/10": 1 / 10,
  "1/3": 1 / 3,
  "1": 1.0,
  "3": 3.0,
  "10": 10.0,
}
# What people leave Adam at.
ABSOLUTE = {"1e-5": 1e-5, "1e-4": 1e-4, "1e-3": 1e-3, "1e-2": 1e-2, "1e-1": 0.1}
_ABSOLUTE_BASES = ("adam",)
LABELS = (*ABSOLUTE, *SHARES)
BEST = "1"


class Setting(NamedTuple):
  """One optimizer at one rate.

  Attributes:
    base: name of the plain optimizer.
    predicts: whether it is accelerated.
    label: of the rate, a key of `SHARES` or of `ABSOLUTE`.
  """

  base: str
  predicts: bool
  label: str

  @property
  def method(self) -> str:
    """Its name among the opponents."""
    return f"{self.base}+accelerate" if self.predicts else self.base

  def rate(self, best: float) -> float:
    """The learning rate, given the base's best."""
    if self.label in ABSOLUTE:
      return ABSOLUTE[self.label]
    return SHARES[self.label] * best


def labels_of(base: str) -> tuple[str, ...]:
  """The rates of a base, absolute ones first."""
  absolute = tuple(ABSOLUTE) if base in _ABSOLUTE_BASES else ()
  return absolute + tuple(SHARES)


def settings(
  bases: tuple[str, ...] = tuple(opponents.BASES),
  labels: tuple[str, ...] = LABELS,
  predicts: tuple[bool, ...] = (True, False),
) -> list[Setting]:
  """Every combination that was asked for and exists.

  Raises:
    ValueError: for an unknown rate or base.
  """
  for name, known in ((bases, tuple(opponents.BASES)), (labels, LABELS)):
    for one in name:
      if one not in known:
        raise ValueError(f"{one!r} is none of {known}.")
  return [
    Setting(base, with_prediction, label)
    for base in bases
    for with_prediction in predicts
    for label in labels_of(base)
    if label in labels
  ]
