"""Addresses, ports, folders and the environment that tritonserver gets on this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import sys
import sysconfig
import tempfile
from pathlib import Path

from ._errors import EmbeddedServerError


def address_of(host: str) -> str:
    """Return the address that a host name stands for, IPv4 first; an address stays as it is.

    Raises:
        EmbeddedServerError: the name has no address.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as e:
        raise EmbeddedServerError(f"--host: {host!r} has no address ({e.strerror or e})") from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])


def in_brackets(address: str) -> str:
    """Return an address as URLs have it: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address else address


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach an address."""
    return ipaddress.ip_address(address).is_loopback


def scratch_folder() -> Path:
    """Return a new temporary folder whose path has no space: tritonserver's shell commands part at spaces.

    Raises:
        EmbeddedServerError: no such folder can be made.
    """
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    reason = "their paths have spaces"
    for folder in dict.fromkeys(c for c in candidates if not re.search(r"\s", c)):
        try:
            return Path(tempfile.mkdtemp(prefix="lipsync-server-", dir=folder))
        except OSError as e:
            reason = f"{folder}: {e.strerror or e}"
    raise EmbeddedServerError(
        f"no temporary folder for the server in {', '.join(candidates)} ({reason}):"
        " free some space, or set TMPDIR"
    )


def free_ports(host: str, wanted: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return a free port for each 0 in `wanted`, no two the same: each is held until all are known."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as held:

        def free() -> int:
            probe = held.enter_context(socket.socket(family))
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
            return free() if port in wanted else port

        http, grpc, metrics = wanted
        return http or free(), grpc or free(), metrics or free()


def environment_of_server(libraries: list[Path]) -> dict[str, str]:
    """Return the environment of tritonserver and its stubs, with this interpreter first on PATH."""
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
    # ONNX Runtime 1.29 and later sends the names and hashes of models to its makers, unless this is set.
    environment.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Large buffers go back to the system at once. By default glibc raises this limit to the largest buffer
    # that was freed, up to 32 MiB, and keeps buffers below it.
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**20))
    return environment
