"""Where and with what a result was made, without naming the machine."""

import datetime
from importlib import metadata
import os
import pathlib
import platform
import re

import jax

_PACKAGES = (
  "jax",
  "jaxlib",
  "optax",
  "flax",
  "diffrax",
  "sif2jax",
  "numpy",
  "scipy",
  "scikit-learn",
)


def _version(package: str) -> str | None:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


def _processor() -> str:
  info = pathlib.Path("/proc/cpuinfo")
  if info.exists():
    for line in info.read_text().splitlines():
      if line.startswith("model name"):
        return line.split(":", 1)[1].strip()
  return platform.processor() or platform.machine()


def describe() -> dict:
  """Versions, device and date, for the head of every result file."""
  import optax_predict

  device = jax.devices()[0]
  is_cpu = device.platform == "cpu"
  return {
    "date": datetime.date.today().isoformat(),
    "python": platform.python_version(),
    "optax_predict": optax_predict.__version__,
    "versions": {p: _version(p) for p in _PACKAGES},
    "platform": device.platform,
    "device": (is_cpu and _processor()) or device.device_kind,
    "cores": len(os.sched_getaffinity(0)),
  }


def slug(made: dict) -> str:
  """The device as part of a file name."""
  if made["platform"] == "cpu":
    return "cpu"
  return re.sub(r"[^a-z0-9]+", "-", made["device"].lower()).strip("-")
