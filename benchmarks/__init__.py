"""Measurements behind the figures that the README states. Run as `python -m benchmarks.NAME`."""
