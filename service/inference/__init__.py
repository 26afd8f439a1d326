"""Load a version, warm it up, batch rows, run them, decode requests, encode answers."""
