"""Credentials, issued tokens, and who may do what."""
