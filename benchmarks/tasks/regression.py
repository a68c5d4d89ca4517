"""Convex and nearly convex regression on data that ships with scikit-learn."""

import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets
from sklearn import preprocessing

from benchmarks.tasks import _base


def _standardised(x):
  return preprocessing.StandardScaler().fit_transform(x).astype(np.float32)


def _cancer():
  x, y = datasets.load_breast_cancer(return_X_y=True)
  return _standardised(x), y.astype(np.float32)


@_base.task("tuning", budget=400)
def logistic_cancer():
  """Two classes, 30 correlated features, a little ridge."""
  x, y = _cancer()

  def loss(params):
    logits = x @ params["w"] + params["b"]
    data = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, y))
    return data + 1e-3 * jnp.sum(params["w"] ** 2)

  def init(seed):
    return {"w": _base.perturbed(np.zeros(30), 0.5)(seed), "b": jnp.zeros(())}

  return init, loss


@_base.task("reporting", budget=400)
def softmax_digits():
  """Ten classes over pixels, some of which are always zero."""
  x, y = datasets.load_digits(return_X_y=True)
  x = (x / 16).astype(np.float32)

  def loss(params):
    logits = x @ params["w"] + params["b"]
    data = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return data + 1e-4 * jnp.sum(params["w"] ** 2)

  def init(seed):
    w = _base.perturbed(np.zeros((64, 10)), 0.1)(seed)
    return {"w": w, "b": jnp.zeros(10)}

  return init, loss


@_base.task("tuning", budget=400)
def robust_regression():
  """Cauchy loss, a fifth of the targets corrupted: non-convex, heavy tails."""
  x, y = datasets.load_diabetes(return_X_y=True)
  x = preprocessing.PolynomialFeatures(2, include_bias=False).fit_transform(
    _standardised(x)
  )
  x, y = _standardised(x), _standardised(y[:, None])[:, 0]
  rng = np.random.default_rng(0)
  outliers = rng.random(len(y)) < 0.2
  y = np.where(outliers, y + 8 * rng.standard_normal(len(y)), y)
  y = y.astype(np.float32)

  def loss(w):
    residual = x @ w - y
    return jnp.mean(jnp.log1p(residual**2)) + 1e-4 * jnp.sum(w**2)

  return _base.perturbed(np.zeros(x.shape[1]), 0.3), loss


@_base.task("reporting", budget=400)
def variational_logistic():
  """Mean-field posterior with common random numbers: a deterministic ELBO."""
  x, y = _cancer()
  noise = np.random.default_rng(0).standard_normal((8, 30)).astype(np.float32)

  def loss(params):
    scale = jnp.exp(params["log_scale"])
    weights = params["mean"] + scale * noise
    logits = weights @ x.T
    data = optax.sigmoid_binary_cross_entropy(logits, y).sum(1).mean()
    kl = 0.5 * jnp.sum(scale**2 + params["mean"] ** 2) - jnp.sum(
      params["log_scale"]
    )
    return (data + kl) / len(y)

  def init(seed):
    mean = _base.perturbed(np.zeros(30), 0.3)(seed)
    return {"mean": mean, "log_scale": jnp.full(30, -1.0)}

  return init, loss


@_base.task("reporting", budget=400)
def poisson_splines():
  """Counts explained by radial bumps: exponential link, strong curvature."""
  rng = np.random.default_rng(0)
  t = np.linspace(0, 1, 200)
  rate = np.exp(1 + np.sin(6 * t) + 0.5 * np.cos(15 * t))
  counts = rng.poisson(rate).astype(np.float32)
  centres = np.linspace(0, 1, 30)
  basis = np.exp(-0.5 * ((t[:, None] - centres) / 0.05) ** 2)
  basis = basis.astype(np.float32)

  def loss(w):
    log_rate = basis @ w
    data = jnp.mean(jnp.exp(log_rate) - counts * log_rate)
    return data + 1e-3 * jnp.sum(jnp.diff(w) ** 2)

  return _base.perturbed(np.zeros(30), 0.1), loss


@_base.task("reporting", budget=400)
def tsne_digits():
  """The t-SNE objective at a fixed affinity: full-batch by definition."""
  x = datasets.load_digits(n_class=5)["data"][:150].astype(np.float64)
  square = ((x[:, None] - x[None]) ** 2).sum(-1)
  affinity = np.exp(-square / (2 * np.median(square) / 8))
  np.fill_diagonal(affinity, 0)
  affinity /= affinity.sum(1, keepdims=True)
  affinity = ((affinity + affinity.T) / (2 * len(x))).astype(np.float32)
  off_diagonal = 1 - np.eye(len(x), dtype=np.float32)
  entropy = np.float32(np.sum(affinity * np.log(affinity + 1e-12)))

  def loss(y):
    distance = jnp.sum((y[:, None] - y[None]) ** 2, -1)
    log_kernel = -jnp.log1p(distance)
    normaliser = jnp.log(jnp.sum(jnp.exp(log_kernel) * off_diagonal))
    return entropy - jnp.sum(affinity * (log_kernel - normaliser))

  start = np.random.default_rng(0).standard_normal((len(x), 2))
  return _base.perturbed(start, 0.1), loss
