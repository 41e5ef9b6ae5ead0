"""Benchmarks of the service: speed, memory and live sessions, beside the bare network and earlier systems."""
