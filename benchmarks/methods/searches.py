"""The opponents that find their own step: no rate, every evaluation counted."""

from collections.abc import Callable

from benchmarks.methods import line_search
from benchmarks.methods import optimistix_search
from benchmarks.methods import running
from benchmarks.methods import self_scaled

METHODS: dict[str, Callable[[running.Problem, int], running.Run]] = {
  "optax_lbfgs": line_search.optax_lbfgs,
  "scipy_lbfgs": line_search.scipy_lbfgs,
  "optimistix_cg": optimistix_search.conjugate_gradients,
  "optimistix_bfgs": optimistix_search.bfgs,
  "ssbroyden": self_scaled.ssbroyden,
}
# With a dense matrix and this many unknowns a step costs more than a gradient.
MOST_UNKNOWNS = {"optimistix_bfgs": 2000, "ssbroyden": 2000}


def applies(method: str, problem: running.Problem) -> bool:
  """Whether a task is small enough for a method."""
  return problem.size <= MOST_UNKNOWNS.get(method, problem.size)
