"""Data sets: made ones, MNIST, files, corrected labels, and their splits."""
