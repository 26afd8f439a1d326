"""Metrics of all processes, and spans."""
