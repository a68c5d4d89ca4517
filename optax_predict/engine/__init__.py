"""One predictor: its state, a true gradient, one window."""
