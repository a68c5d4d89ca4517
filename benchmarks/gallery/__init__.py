"""The notebooks of the gallery at full size."""
