"""What lasts: the database, checkpoints, versions, aliases, corrected labels."""
