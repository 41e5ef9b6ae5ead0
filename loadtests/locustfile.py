"""Load tests of the lip-sync service: locust -f loadtests/locustfile.py --help, and docs/loadtests.md."""

from lipsync_locust import plugin  # noqa: F401  registers options, tally and report
from lipsync_locust.users import GrpcClips, GrpcLive, HttpClips, HttpLive, StreamClips

__all__ = ["GrpcClips", "GrpcLive", "HttpClips", "HttpLive", "StreamClips"]
