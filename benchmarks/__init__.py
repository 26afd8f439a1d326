"""The measurements behind all figures in the documentation. Run as `python -m benchmarks.NAME`."""
