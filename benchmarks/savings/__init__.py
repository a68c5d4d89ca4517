"""True gradients to a target, tuned: cells, their analysis and the report."""
