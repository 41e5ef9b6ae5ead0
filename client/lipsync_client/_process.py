"""Checks that the client can work in this process: forks and gevent's patches break it."""

from __future__ import annotations

import os
import sys

from ._errors import UnsupportedProcess

_grpc_used_in: int | None = None  # process id


def check_grpc() -> None:
    """Note that this process uses gRPC, unless it cannot: gRPC's threads do not survive a fork.

    Raises:
        UnsupportedProcess: a parent of this process has used gRPC, or gevent has patched this one.
    """
    global _grpc_used_in
    check_gevent()
    if _grpc_used_in not in (None, os.getpid()):
        raise UnsupportedProcess(
            f"this process was forked from one that had used gRPC (process {_grpc_used_in}), and gRPC does"
            " not work in it. Use an http:// or https:// URL, start processes with multiprocessing's"
            " 'spawn', or make the first client after the fork"
        )
    _grpc_used_in = os.getpid()


def check_gevent() -> None:
    """Refuse a process where gevent stands in for threads and sockets: event loops and gRPC hang there.

    Raises:
        UnsupportedProcess: gevent has patched this process.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise UnsupportedProcess(
            "the client runs an event loop, which does not work where gevent has patched the standard"
            " library. Call it in a process of its own, or call Triton with tritonclient and"
            " lipsync_client.protocol"
        )


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
