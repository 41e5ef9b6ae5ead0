"""The processes that gRPC cannot work in: forked ones, and those that gevent has patched."""

from __future__ import annotations

import os
import sys

from ._errors import UnsupportedProcess

_HINT = "Use an http:// or https:// URL"
_grpc_used_in: int | None = None  # process id


def check_grpc() -> None:
    """Note that this process uses gRPC, unless it cannot.

    gRPC's threads do not survive a fork, and calls in a child crash or hang. gevent replaces the sockets and
    threads that gRPC's event loop waits on, and calls hang.

    Raises:
        UnsupportedProcess: a parent of this process has used gRPC, or gevent has patched this one.
    """
    global _grpc_used_in
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        raise UnsupportedProcess(
            f"gRPC's asyncio client does not work where gevent has patched the standard library. {_HINT}"
        )
    if _grpc_used_in not in (None, os.getpid()):
        raise UnsupportedProcess(
            f"this process was forked from one that had used gRPC (process {_grpc_used_in}), and gRPC does"
            f" not work in it. {_HINT}, start processes with multiprocessing's 'spawn', or make the first"
            " client after the fork"
        )
    _grpc_used_in = os.getpid()


def check_owner(pid: int) -> None:
    """Refuse a client that was opened in another process.

    Raises:
        UnsupportedProcess: this process is not `pid`.
    """
    if pid != os.getpid():
        raise UnsupportedProcess(
            f"this client was opened in process {pid}, and its connections do not work in a process forked"
            " from it: make a client in each process"
        )
