"""The loss functions of the random problems, and how problems are drawn."""

import jax
import jax.numpy as jnp
import numpy as np


def _log_uniform(rng, low, high, size=None):
  """10 to a power between ``low`` and ``high``."""
  return 10 ** rng.uniform(low, high, size)


def _spectrum(rng, size):
  """A random rotation of eigenvalues between 1 and down to 1e-4."""
  decades = rng.uniform(1, 4)
  eigenvalues = _log_uniform(rng, -decades, 0, size)
  rotation, _ = np.linalg.qr(rng.normal(size=(size, size)))
  return rotation * eigenvalues @ rotation.T


def draw_quadratic(rng):
  """48 unknowns, condition numbers from 10 to 1e4."""
  return {"hessian": _spectrum(rng, 48)}, rng.normal(size=48)


def quadratic(x, data):
  """A convex quadratic with its minimum at zero."""
  x = x[:48]
  return 0.5 * x @ data["hessian"] @ x


def draw_noisy_quadratic(rng):
  """Noise from a hundredth to three times the first gradient."""
  data, start = draw_quadratic(rng)
  first = np.linalg.norm(data["hessian"] @ start)
  noise = _log_uniform(rng, -2, 0.5) * first / np.sqrt(start.size)
  return {**data, "noise": noise}, start


def noisy_gradient(x, data, call):
  """The gradient of the quadratic with white noise, by call."""
  key = jax.random.fold_in(jax.random.key(0), call)
  noise = data["noise"] * jax.random.normal(key, [48])
  return jnp.pad(data["hessian"] @ x[:48] + noise, (0, x.size - 48))


def draw_exponentials(rng):
  """A sum of three decays, to be fitted from a poor guess."""
  times = np.linspace(0, 5, 60)
  amplitudes, rates = rng.uniform(0.5, 2, 3), _log_uniform(rng, -1, 1, 3)
  values = np.exp(-np.outer(times, rates)) @ amplitudes
  values += 0.01 * rng.normal(size=60)
  start = np.concatenate([np.ones(3), np.log([0.3, 1, 3])])
  return {"times": times, "values": values}, start + 0.3 * rng.normal(size=6)


def exponentials(x, data):
  """Amplitudes and logarithms of rates: an ill-conditioned least squares."""
  fitted = jnp.exp(-jnp.outer(data["times"], jnp.exp(x[3:6]))) @ x[:3]
  return jnp.mean((fitted - data["values"]) ** 2)


def draw_oscillations(rng):
  """A damped oscillation, to be fitted from a guess that is somewhat off."""
  times = np.linspace(0, 5, 60)
  amplitude, offset = rng.uniform(0.5, 2), rng.normal()
  decay, phase = _log_uniform(rng, -1, 0), rng.uniform(-np.pi, np.pi)
  truth = np.array([amplitude, decay, rng.uniform(1, 4), phase, offset])
  values = _oscillation(np, truth, times) + 0.01 * rng.normal(size=60)
  return {"times": times, "values": values}, truth + 0.3 * rng.normal(size=5)


def oscillations(x, data):
  """Least squares; where the decay turns into growth there is a wall."""
  return jnp.mean((_oscillation(jnp, x, data["times"]) - data["values"]) ** 2)


def _oscillation(numpy, x, times):
  amplitude, decay, frequency, phase, offset = x[:5]
  wave = numpy.cos(frequency * times + phase)
  return amplitude * numpy.exp(-decay * times) * wave + offset


def draw_logistic(rng):
  """24 features of scales that differ by up to 30, some labels flipped."""
  features = rng.normal(size=(80, 24)) * _log_uniform(rng, -1.5, 0, 24)
  labels = np.sign(features @ rng.normal(size=24) + 1e-9)
  labels *= np.where(rng.uniform(size=80) < 0.05, -1, 1)
  data = {"features": features, "labels": labels}
  return data, 0.1 * rng.normal(size=24)


def logistic(x, data):
  """Logistic regression with a small ridge."""
  margins = data["labels"] * (data["features"] @ x[:24])
  return jnp.mean(jax.nn.softplus(-margins)) + 1e-4 * x @ x


def draw_softmax(rng):
  """Four overlapping classes of ten features."""
  labels = rng.integers(0, 4, 96)
  centres = _log_uniform(rng, -0.5, 0.5) * rng.normal(size=(4, 10))
  features = centres[labels] + rng.normal(size=(96, 10))
  data = {"features": features, "labels": np.eye(4)[labels]}
  return data, 0.1 * rng.normal(size=44)


def softmax(x, data):
  """Softmax regression with a small ridge."""
  return _softmax(x, data["features"], data["labels"])


def _softmax(x, features, labels):
  logits = features @ x[:40].reshape(10, 4) + x[40:44]
  log_likelihood = jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1)
  return -jnp.mean(log_likelihood) + 1e-4 * x @ x


def minibatch_gradient(x, data, call):
  """The gradient from 16 rows drawn anew at every call."""
  key = jax.random.fold_in(jax.random.key(1), call)
  rows = jax.random.choice(key, 96, [16], replace=False)
  return jax.grad(_softmax)(x, data["features"][rows], data["labels"][rows])


def _network(x, sizes, activation, inputs):
  """A network with one hidden layer and its outputs at ``inputs``."""
  before, hidden, after = sizes
  w1, b1, w2, b2 = jnp.split(
    x[: (before + 1) * hidden + (hidden + 1) * after],
    np.cumsum([before * hidden, hidden, hidden * after]),
  )
  h = activation(inputs @ w1.reshape(before, hidden) + b1)
  return h @ w2.reshape(hidden, after) + b2


_TANH = (3, 8, 1)
_RELU = (2, 10, 2)


def _weights(rng, sizes):
  before, hidden, after = sizes
  return np.concatenate(
    [
      rng.normal(size=before * hidden) / np.sqrt(before),
      0.1 * rng.normal(size=hidden),
      rng.normal(size=hidden * after) / np.sqrt(hidden),
      np.zeros(after),
    ]
  )


def draw_tanh_network(rng):
  """64 points of a random wave."""
  inputs = rng.normal(size=(64, 3))
  targets = np.sin(inputs @ rng.normal(size=3) * rng.uniform(0.5, 2))
  data = {"inputs": inputs, "targets": targets[:, None]}
  return data, _weights(rng, _TANH)


def tanh_network(x, data):
  """Least squares with a small tanh network."""
  outputs = _network(x, _TANH, jnp.tanh, data["inputs"])
  return jnp.mean((outputs - data["targets"]) ** 2)


def draw_relu_network(rng):
  """Two classes on a plane, divided by a circle."""
  inputs = rng.normal(size=(80, 2))
  inside = np.sum(inputs**2, axis=1) < rng.uniform(0.7, 2)
  data = {"inputs": inputs, "labels": np.eye(2)[inside.astype(int)]}
  return data, _weights(rng, _RELU)


def relu_network(x, data):
  """Classification with a small ReLU network: its gradient jumps."""
  logits = _network(x, _RELU, jax.nn.relu, data["inputs"])
  labels = data["labels"]
  return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1))


def draw_factorisation(rng):
  """An 8 by 8 matrix of rank 3, singular values over up to two decades."""
  left, right = rng.normal(size=(8, 3)), rng.normal(size=(3, 8))
  scales = _log_uniform(rng, -rng.uniform(0, 2), 0, 3)
  return {"matrix": left * scales @ right}, 0.5 * rng.normal(size=48)


def factorisation(x, data):
  """Both factors of a matrix: not convex, flat along rotations."""
  left, right = x[:24].reshape(8, 3), x[24:48].reshape(3, 8)
  return jnp.mean((left @ right - data["matrix"]) ** 2)


def draw_rosenbrock(rng):
  """Ten unknowns in a bent valley of random steepness."""
  return {"steep": _log_uniform(rng, 0.5, 2)}, rng.uniform(-1.5, 1.5, 10)


def rosenbrock(x, data):
  """Rosenbrock's function, chained."""
  x = x[:10]
  bend = data["steep"] * (x[1:] - x[:-1] ** 2) ** 2
  return jnp.sum(bend + (1 - x[:-1]) ** 2)


def draw_saddles(rng):
  """Coupled double wells, started close to their common saddle."""
  coupling = 0.2 * rng.normal(size=(24, 24)) / np.sqrt(24)
  return {"coupling": coupling @ coupling.T}, 0.01 * rng.normal(size=24)


def saddles(x, data):
  """Double wells: a saddle at zero, minima near plus and minus one."""
  x = x[:24]
  wells = jnp.sum(x**4 / 4 - x**2 / 2 + 1 / 4)
  return wells + 0.5 * x @ data["coupling"] @ x


def draw_products(rng):
  """Eight chains of five factors each, and what they shall multiply to."""
  return {"targets": rng.uniform(0.5, 4, 8)}, rng.uniform(0.3, 1.2, 40)


def products(x, data):
  """Deep linear chains: flat where factors are small, steep where large."""
  made = jnp.prod(x[:40].reshape(5, 8), axis=0)
  return jnp.mean((made - data["targets"]) ** 2)


def draw_regression(rng):
  """60 rows, 20 features of mixed scales, a tenth of the targets far off."""
  features = rng.normal(size=(60, 20)) * _log_uniform(rng, -1, 0, 20)
  targets = features @ rng.normal(size=20) + 0.05 * rng.normal(size=60)
  targets += 5 * rng.normal(size=60) * (rng.uniform(size=60) < 0.1)
  data = {
    "features": features,
    "targets": targets,
    "width": _log_uniform(rng, -2, 0),
  }
  return data, rng.normal(size=20)


def huber(x, data):
  """Huber's loss, of random width."""
  residuals = jnp.abs(data["features"] @ x[:20] - data["targets"])
  width = data["width"]
  inside = 0.5 * residuals**2 / width
  return jnp.mean(jnp.where(residuals < width, inside, residuals - width / 2))


def absolute(x, data):
  """Least absolute deviations with an L1 penalty."""
  x = x[:20]
  residuals = data["features"] @ x - data["targets"]
  return jnp.mean(jnp.abs(residuals)) + 0.01 * jnp.sum(jnp.abs(x))


def draw_cliffs(rng):
  """A bowl cut by twelve walls, up to a hundred times as steep as it is."""
  normals = rng.normal(size=(12, 16))
  normals /= np.linalg.norm(normals, axis=1)[:, None]
  data = {
    "curvatures": _log_uniform(rng, -2, 0, 16),
    "minimum": rng.normal(size=16),
    "normals": normals,
    "offsets": rng.uniform(0.2, 1.5, 12),
    "slopes": _log_uniform(rng, -1, 1.5, 12),
    "steps": _log_uniform(rng, -2, 0, 12),
  }
  return data, 2 * rng.normal(size=16)


def cliffs(x, data):
  """Kinks, and jumps of the loss that its gradient does not show."""
  x = x[:16]
  beyond = data["normals"] @ x - data["offsets"]
  bowl = 0.5 * jnp.sum(data["curvatures"] * (x - data["minimum"]) ** 2)
  walls = data["slopes"] * jax.nn.relu(beyond) + data["steps"] * (beyond > 0)
  return bowl + jnp.sum(walls)
