"""Let Locust search for the knee: -f locustfile.py,knee.py."""

from lipsync_locust.shapes import KneeSearch

__all__ = ["KneeSearch"]
