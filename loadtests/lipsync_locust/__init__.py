"""Locust users, load shape and reports for the lip-sync service; started by ../locustfile.py.

Locust patches the standard library for gevent on import: only `users`, `shapes` and `plugin` import
it.
"""
