"""Bytes on a socket: limits on connections."""
