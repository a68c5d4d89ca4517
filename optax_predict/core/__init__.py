"""What every part is built from: interfaces, trees, sums, checks."""
