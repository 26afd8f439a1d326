"""Networks, their inputs and their checkpoints. Imports neither `training` nor `service`."""
