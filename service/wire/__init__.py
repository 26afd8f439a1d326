"""Bytes on a socket: the fast path of predictions, and limits on connections."""
