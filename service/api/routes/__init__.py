"""The native routes, one module per subject."""
