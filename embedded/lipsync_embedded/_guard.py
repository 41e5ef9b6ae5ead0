"""Run one child process, none of whose processes outlives the owner of this guard.

    python _guard.py SHM_PREFIX STOP_TIMEOUT_S COMMAND [ARGUMENT ...]

Standard input is a pipe whose other end the owner holds and never writes to: it closes when the owner asks
for a stop and when the owner dies in any way at all, SIGKILL included. Then, or on SIGTERM, the child gets
SIGTERM, after a while its whole process group SIGKILL, and its shared memory is removed. The guard exits
with the child's code (128 + signal if one ended it).

Standard library only, and run as a file: it must start in milliseconds.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def _die_with_guard() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(argv: list[str]) -> int:
    shm_prefix, stop_timeout_s, command = argv[1], float(argv[2]), argv[3:]
    waker, wake = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(wake, b"x"))
    signal.signal(signal.SIGCHLD, lambda *_: os.write(wake, b"c"))
    # The guard leads the group and so the group outlives the child: its number cannot be reused under us.
    child = subprocess.Popen(  # preexec_fn: single-threaded here
        command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_guard
    )
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(waker, selectors.EVENT_READ)
            selector.register(0, selectors.EVENT_READ)
            while child.poll() is None:
                events = [key.fd for key, _ in selector.select()]
                if 0 in events or (waker in events and os.read(waker, 1) == b"x"):
                    child.terminate()
                    break
        try:
            child.wait(stop_timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    finally:
        _end_group()
        for segment in Path("/dev/shm").glob(shm_prefix + "*"):
            segment.unlink(missing_ok=True)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _end_group() -> None:
    """End the processes that the child left: the Python backend's stubs."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mine, group = os.getpid(), os.getpgrp()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        others = [p for p in _processes() if p != mine and _group(p) == group]
        if not others:
            return
        for pid in others:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _group(pid: int) -> int:
    """Return the process group of a live process; zombies count as gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] == "Z" else int(fields[2])


if __name__ == "__main__":
    sys.exit(main(sys.argv))
