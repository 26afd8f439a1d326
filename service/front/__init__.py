"""Plain predictions, answered in front of the router."""
