"""Pictures of a training: curves, decision boundaries, predictions."""
