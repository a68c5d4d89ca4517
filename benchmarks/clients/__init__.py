"""Loops of libraries that take an optax optimizer, each as its library has it.

One module per library, so that each can be missing. A module's ``CLIENT`` is
what the benchmark and ``tests/clients`` run.
"""
