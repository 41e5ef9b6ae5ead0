"""The earlier systems around this network, each as its author would have written it well."""
