"""Serve PyTorch classifiers over REST, retrain them while they serve."""
