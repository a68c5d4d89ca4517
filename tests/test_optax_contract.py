"""optax's own contract for a contributed optimizer, run on the default setting.

The module is optax's, as installed; only its table of optimizers is another.
"""

import importlib.util
import pathlib

import optax
from optax import contrib
import pytest

import optax_predict

# optax's tests use its own deprecated names.
pytestmark = [
  pytest.mark.filterwarnings("ignore"),
  pytest.mark.usefixtures("quick_compilation"),
]

_TABLE = "_MAIN_OPTIMIZERS_UNDER_TEST = [\n"


def predictive_sgd(learning_rate):
  return optax.chain(
    optax_predict.predict_gradients(), optax.sgd(learning_rate)
  )


def accelerated_sgd(learning_rate):
  return optax_predict.accelerate(optax.sgd(learning_rate))


_OURS = {f.__name__: f for f in (predictive_sgd, accelerated_sgd)}
_ENTRIES = "".join(
  f"    {{'opt_name': '{name}', 'opt_kwargs': {{'learning_rate': 1e-3}}}},\n"
  for name in _OURS
)
_ONLY_OURS = f"""
_MAIN_OPTIMIZERS_UNDER_TEST = _ALL_OPTIMIZERS_UNDER_TEST = tuple(
    o for o in _MAIN_OPTIMIZERS_UNDER_TEST if o['opt_name'] in {tuple(_OURS)}
)

class ContribTest("""


def _contract():
  path = pathlib.Path(contrib.__file__).with_name("_common_test.py")
  source = path.read_text()
  assert source.count(_TABLE) == 1 and source.count("\nclass ContribTest(") == 1
  source = source.replace(_TABLE, _TABLE + _ENTRIES)
  source = source.replace("\nclass ContribTest(", _ONLY_OURS)
  spec = importlib.util.spec_from_loader("optax_contract", loader=None)
  module = importlib.util.module_from_spec(spec)
  exec(compile(source, str(path), "exec"), module.__dict__)
  return module


# Its table is looked up by name in optax.contrib.
with pytest.MonkeyPatch.context() as _patch:
  for _name, _make in _OURS.items():
    _patch.setattr(contrib, _name, _make, raising=False)
  _module = _contract()


class TestOptaxContract(_module.ContribTest):
  @pytest.fixture(autouse=True)
  def _listed(self, monkeypatch):
    for name, make in _OURS.items():
      monkeypatch.setattr(contrib, name, make, raising=False)


def test_contract_is_not_empty():
  names = [n for n in dir(TestOptaxContract) if n.startswith("test_")]
  assert len(names) >= 10 * len(_OURS), names
