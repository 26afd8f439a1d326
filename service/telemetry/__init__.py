"""Metrics of all processes, and the spans of traces."""
