"""The commands of `perceptd`."""
