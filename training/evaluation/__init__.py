"""Measure a checkpoint, and what its inputs look like."""
