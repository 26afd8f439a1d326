"""The five reference networks and the layers they share."""
