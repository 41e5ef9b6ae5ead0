"""Connections to Triton: one server, several as one, and a cache of responses on disk."""
