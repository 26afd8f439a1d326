"""Whether inputs are like those of the training."""
