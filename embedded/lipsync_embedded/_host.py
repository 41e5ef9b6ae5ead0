"""What tritonserver takes of this machine: free ports, and the environment of its processes."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import sysconfig
from pathlib import Path


def free_ports(host: str, wanted: tuple[int, int, int]) -> tuple[int, int, int]:
    """A free port for each 0 in `wanted`, no two the same: each is held until all are known."""
    with contextlib.ExitStack() as held:

        def free() -> int:
            probe = held.enter_context(socket.socket())
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
            return free() if port in wanted else port

        http, grpc, metrics = wanted
        return http or free(), grpc or free(), metrics or free()


def environment_of_server(libraries: list[Path]) -> dict[str, str]:
    """What tritonserver and its stubs see: this interpreter first on PATH, its packages as they are here."""
    environment = dict(os.environ)
    inherited = environment.get("LD_LIBRARY_PATH", "")
    # CUDA, cuDNN and TensorRT where they came as wheels: ONNX Runtime in a stub finds them by this.
    packages = Path(sysconfig.get_path("purelib"))
    gpu = [*sorted(packages.glob("nvidia/*/lib")), *packages.glob("tensorrt_libs")]
    paths = [*map(str, [*libraries, *gpu]), *filter(None, [inherited])]
    environment["LD_LIBRARY_PATH"] = ":".join(paths)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
    # The stub is a bare interpreter: it finds a virtual environment by this alone.
    environment["VIRTUAL_ENV"] = sys.prefix
    return environment
