"""Keys and texts for `benchmarks.quotes`, from results/rates.json.

A rate's token is its label as a word: 1e_3 for 1e-3, over_100 for a hundredth of
the base's best, best, and times_3.
"""

from benchmarks.methods import opponents
from benchmarks.methods import targets
from benchmarks.rates import plan
from benchmarks.rates import ratios
from benchmarks.savings import analysis
from benchmarks.savings import report

_TARGETS = {targets.TAUS[1]: "", targets.TAUS[2]: ".1e_5"}


def token(label: str) -> str:
  """A label as part of a key."""
  if label in plan.ABSOLUTE:
    return label.replace("-", "_")
  if label == plan.BEST:
    return "best"
  if label.startswith("1/"):
    return f"over_{label[2:]}"
  return f"times_{label}"


def values(found: dict) -> dict[str, str]:
  """Key -> text.

  ``rates.<group>.<base>.<rate>.`` and then ``of_tuned``, the median of true
  gradients over those of the tuned base; ``alone_of_tuned``, the same without
  prediction; ``of_own_best``, over prediction at the base's best rate;
  ``of_<search>``, a geometric mean where both solved, ``of_<search>.budget``
  with misses as the whole budget; ``solved``. To 1e-3, or with ``.1e_5`` behind.
  The base ``all`` pools all three; its rate ``own`` is the best of the rates for
  each task, and ``above`` and ``pairs`` count, at that and at the base's best, what
  needed more than the tuned base, of how many.
  """
  texts = {}
  for group in ratios.GROUPS:
    texts[f"rates.{group}.tasks"] = str(len(ratios.members(found, group)))
    for tau, suffix in _TARGETS.items():
      texts |= _of_group(found, group, tau, suffix)
  return texts


def _of_group(found, group, tau, suffix) -> dict[str, str]:
  texts, pooled = {}, {}
  for method in opponents.LINE_SEARCH:
    done, tried = ratios.solved(found, ratios.search(method), tau, group)
    if tried:
      texts[f"rates.{group}.{method}.solved{suffix}"] = str(done)
      texts[f"rates.{group}.{method}.tried{suffix}"] = str(tried)
  for base in opponents.BASES:
    done, _ = ratios.solved(found, ratios.tuned(base), tau, group)
    texts[f"rates.{group}.{base}.tuned.solved{suffix}"] = str(done)
    for label in plan.labels_of(base):
      key = f"rates.{group}.{base}.{token(label)}"
      ours = ratios.predicting(base, label)
      done, tried = ratios.solved(found, ours, tau, group)
      if not tried:
        continue
      texts[f"{key}.solved{suffix}"] = str(done)
      compared = {
        "of_tuned": (ours, ratios.tuned(base)),
        "alone_of_tuned": (ratios.Column(base, label), ratios.tuned(base)),
      }
      if label in plan.SHARES:
        compared["of_own_best"] = ours, ratios.predicting(base, plan.BEST)
      for name, pair in compared.items():
        listed = ratios.compare(found, *pair, tau, group)
        pooled.setdefault((label, name), []).extend(listed)
        texts |= _median(f"{key}.{name}{suffix}", listed)
      texts |= _means(found, key, ours, tau, group, suffix)
  for name, listed in ratios.pool(found, tau, group)._asdict().items():
    key = f"rates.{group}.all.{name.removeprefix('at_')}"
    texts |= _median(f"{key}.of_tuned{suffix}", listed)
    texts[f"{key}.above{suffix}"] = str(ratios.count_harm(listed))
    texts[f"{key}.pairs{suffix}"] = str(len(listed))
  for (label, name), listed in pooled.items():
    if label in plan.SHARES:
      key = f"rates.{group}.all.{token(label)}.{name}{suffix}"
      texts |= _median(key, listed)
  return texts


def _median(key: str, compared: list[analysis.Comparison]) -> dict[str, str]:
  if not compared:
    return {}
  return {key: report.number(analysis.median(compared))}


def _means(found, key, ours, tau, group, suffix) -> dict[str, str]:
  texts = {}
  for method in opponents.LINE_SEARCH:
    other = ratios.search(method)
    compared = ratios.compare(found, ours, other, tau, group)
    if compared:
      mean = ratios.mean(found, compared)
      texts[f"{key}.of_{method}{suffix}"] = report.number(mean.solved)
      texts[f"{key}.of_{method}.budget{suffix}"] = report.number(mean.budget)
  return texts
