"""Whether gradients are predictable, and what prediction did to a run."""
