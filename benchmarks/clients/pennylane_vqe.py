"""pennylane: the loop of its tutorials on VQE, with the JAX interface."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pennylane as qml

from benchmarks.clients import _base

_STEPS, _TOLERANCE = 100, 1e-6
_ANGSTROM = 1.8897259886
# Hydrogens on a line, and three in a triangle with one electron less.
_H2 = np.array([[0.0, 0.0, -0.6614], [0.0, 0.0, 0.6614]])
_H3 = _ANGSTROM * np.array(
  [[0.0108, 0.0445, 0.0], [0.9873, 1.6376, 0.0], [1.8629, 0.0415, 0.0]]
)


def _energy(is_small):
  """The energy of a state that excitations make, by their angles."""
  coordinates, charge = (_H2, 0) if is_small else (_H3, 1)
  molecule = qml.qchem.Molecule(
    ["H"] * len(coordinates), coordinates, charge=charge
  )
  hamiltonian, qubits = qml.qchem.molecular_hamiltonian(molecule)
  singles, doubles = qml.qchem.excitations(2, qubits)
  occupied = qml.qchem.hf_state(2, qubits)

  @qml.qnode(qml.device("default.qubit", wires=qubits), interface="jax")
  def circuit(angles):
    qml.BasisState(occupied, wires=range(qubits))
    for angle, wires in zip(angles, doubles + singles, strict=True):
      excite = qml.DoubleExcitation if len(wires) == 4 else qml.SingleExcitation
      excite(angle, wires=wires)
    return qml.expval(hamiltonian)

  return circuit, len(singles) + len(doubles)


def run(
  optimizer, is_small: bool = False, steps: int | None = None
) -> _base.Run:
  """Nothing is compiled but the energy, and `update` sees no parameters."""
  with jax.enable_x64(True):
    circuit, count = _energy(is_small)
    value_and_grad = jax.jit(jax.value_and_grad(circuit))
    angles = jnp.zeros(count)
    opt_state = optimizer.init(angles)
    losses = []
    for _ in range(steps or _STEPS):
      energy, gradient = value_and_grad(angles)
      updates, opt_state = optimizer.update(gradient, opt_state)
      angles = optax.apply_updates(angles, updates)
      losses.append(energy)
      if len(losses) > 1 and abs(losses[-1] - losses[-2]) <= _TOLERANCE:
        break
    return _base.Run(np.asarray(losses), opt_state)


CLIENT = _base.Client(
  library="pennylane",
  loop="VQE of H3+, not compiled",
  rule="SGD 0.4",
  optimizer=lambda: optax.sgd(0.4),
  run=run,
  passes_params=False,
)
