"""Files, folders and pipes that a result is written to."""
