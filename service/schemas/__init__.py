"""Bodies of the native API, and what makes them from the spec of a model."""
