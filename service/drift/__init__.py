"""Measures whether inputs are like those of the training."""
