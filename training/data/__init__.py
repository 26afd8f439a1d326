"""Data sets: generated ones, MNIST, files, corrected labels, and their splits."""
