"""Execution profiles: sets of configs beside the usual ones, and the measurements that choose them."""
