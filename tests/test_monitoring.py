"""The plots hold the numbers they were given."""

import sys

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import optax_predict
from optax_predict import monitoring
from optax_predict import predictability

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
  yield
  from matplotlib import pyplot

  pyplot.close("all")


def logged(count=4):
  return [
    optax_predict.PredictorStats(
      total_steps=jnp.int32(3 * i),
      computed_steps=jnp.int32(i),
      predicted_steps=jnp.int32(2 * i),
      prediction_ratio=jnp.float32(2 / 3),
      mean_error=jnp.float32(0.5),
      recent_error=jnp.float32(0.1 * i),
      correlation=jnp.float32(0.9),
      horizon=jnp.int32(i),
      history_size=jnp.int32(1),
    )
    for i in range(1, count + 1)
  ]


@pytest.mark.parametrize("as_mappings", [False, True])
def test_run_panels_hold_what_was_logged(as_mappings):
  stats, losses = logged(), [4.0, 3.0, jnp.float32(2.0), 1.0]
  if as_mappings:
    stats = [
      {k: float(v) for k, v in s._asdict().items()} | {"epoch": 1}
      for s in stats
    ]
  figure = monitoring.plot_run(stats, losses, baseline=[5.0, 4.5])
  drawn = {
    label: [np.array(line.get_data()).T.tolist() for line in ax.lines]
    for label, ax in zip(("gradients", "steps", "h", "e", "s"), figure.axes)
  }
  assert drawn["gradients"][0] == [[1, 4], [2, 3], [3, 2], [4, 1]]
  assert drawn["gradients"][1] == [[1, 5], [2, 4.5]]
  assert drawn["steps"][0] == [[3, 4], [6, 3], [9, 2], [12, 1]]
  assert drawn["h"][0] == [[1, 1], [2, 2], [3, 3], [4, 4]]
  np.testing.assert_allclose(drawn["e"][0][3], [4, 0.4], rtol=1e-6)
  np.testing.assert_allclose(drawn["s"][0][0], [1, 200 / 3], rtol=1e-6)


def test_stats_and_losses_must_match():
  with pytest.raises(ValueError, match="4 stats and 1 losses"):
    monitoring.plot_run(logged(), [1.0])
  with pytest.raises(ValueError, match="0 stats"):
    monitoring.plot_run([], [])


def report():
  score = predictability.Score(
    np.array([2, 4]), np.array([0.2, 0.4]), np.array([0.9, 0.8])
  )
  return predictability.Report(
    {"mine": {0: score, 4: score}}, steps=20, rtol=0.6, noise=0.1
  )


def test_report_lines_hold_the_medians():
  ax = report().plot()
  line, limit, noise = ax.lines
  np.testing.assert_allclose(
    np.array(line.get_data()), [[1, 5], [0.3, 0.3]], rtol=1e-6
  )
  assert line.get_label() == "mine"
  assert set(limit.get_ydata()) == {0.486} and set(noise.get_ydata()) == {0.1}
  assert report().plot(ax) is ax


def test_missing_matplotlib_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  for draw in (report().plot, lambda: monitoring.plot_run(logged(1), [1.0])):
    with pytest.raises(ImportError, match="pip install matplotlib"):
      draw()
