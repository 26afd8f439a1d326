"""Offline scripts: from data to a checkpoint. Run as `python -m perceptd.training`."""
