"""The rate left alone: true gradients at rates that nobody tuned."""
