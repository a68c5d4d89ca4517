"""What ``python -m optax_predict`` runs."""
