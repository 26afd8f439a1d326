"""Evaluation: metrics of checkpoints, and references for the drift of their inputs."""
