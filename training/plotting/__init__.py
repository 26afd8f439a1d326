"""Plots of a training: loss curves, decision boundaries, predictions."""
