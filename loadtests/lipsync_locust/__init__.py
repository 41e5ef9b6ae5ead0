"""Locust users, load shape and reports for the lip-sync service; started by ../locustfile.py.

Only `users`, `shapes` and `plugin` import Locust, which patches the standard library for gevent on import.
"""
