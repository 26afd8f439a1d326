"""The server. It imports `models` and never `training`: whatever trains is another process."""
