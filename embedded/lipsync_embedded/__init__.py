"""A real tritonserver without Docker, for one machine: the binary in nvidia-pytriton's wheel."""

from ._errors import EmbeddedServerError, ServerStartError
from ._server import Server
from ._wheel import WheelError, find_wheel

__all__ = ["EmbeddedServerError", "Server", "ServerStartError", "WheelError", "find_wheel"]
