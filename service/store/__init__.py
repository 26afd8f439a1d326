"""The store: database, checkpoints, versions, aliases, corrected labels."""
