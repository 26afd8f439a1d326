"""One attempt at a job: make a checkpoint, register it, judge it, promote it."""
