"""A real tritonserver without Docker, for one machine: the binary in nvidia-pytriton's wheel."""

from ._server import Server, ServerError, ServerStartError
from ._wheel import WheelError

__all__ = ["Server", "ServerError", "ServerStartError", "WheelError"]
