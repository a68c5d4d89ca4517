"""The benchmark suite: true gradients to a target, against tuned opponents."""
