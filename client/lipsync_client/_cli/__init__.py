"""The `lipsync-client` command."""
