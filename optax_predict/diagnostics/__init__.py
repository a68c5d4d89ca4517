"""Are gradients predictable, and what did a run do?"""
