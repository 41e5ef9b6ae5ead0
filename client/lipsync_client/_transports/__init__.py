"""How requests reach Triton: one server, several as one, and responses kept on disk."""
