"""Serve PyTorch classifiers over REST, retrain them while they serve."""

__version__ = "0.1.0"
