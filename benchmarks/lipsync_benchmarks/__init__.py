"""Speed of the service, against the bare runtime and the earlier systems, measured side by side."""
