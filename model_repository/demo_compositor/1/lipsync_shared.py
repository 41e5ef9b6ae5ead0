"""Memory that the instances of a model share: the first one makes it, the others map it.

It is a memory file (memfd), which no folder holds: nothing is left of it when its last process ends. The
instances are children of one tritonserver, and find it among each other's open files.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_PROCESSES = Path("/proc")
_COMPLETE = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


def shared_memory(name: str, write: Callable[[BinaryIO], None]) -> NDArray[np.uint8]:
    """Return the content of a memory file, read-only uint8 (bytes,).

    Args:
        name: what the content follows from, at most 200 characters.
        write: writes the content, at least one byte; it is called if no other instance has the content.
    """
    with os.fdopen(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as own:
        fcntl.flock(own, fcntl.LOCK_EX)
        while (other := _of_another_instance(name)) is not None:
            with other:
                fcntl.flock(other, fcntl.LOCK_SH)  # until it is complete, or its process has ended
                if _is_complete(other.fileno()):
                    fcntl.flock(other, fcntl.LOCK_UN)
                    return _mapped(other.fileno())
        own.truncate(1)  # begun, for those who come now; the content overwrites it
        write(own)
        own.flush()
        fcntl.fcntl(own, fcntl.F_ADD_SEALS, _COMPLETE)
        fcntl.flock(own, fcntl.LOCK_UN)
        return _mapped(own.fileno())


def _mapped(fd: int) -> NDArray[np.uint8]:
    # The map holds the file open for as long as the array lives.
    return np.frombuffer(mmap.mmap(fd, 0, prot=mmap.PROT_READ), np.uint8)


def _is_complete(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _COMPLETE == _COMPLETE


def _of_another_instance(name: str) -> BinaryIO | None:
    """Return the file of an instance that has begun to write it, or else of one with a smaller process id."""
    for pid in _other_instances():
        # Processes end at any time, and those of other users cannot be read.
        with suppress(OSError):
            for link in (_PROCESSES / str(pid) / "fd").iterdir():
                if _name(link) == name:
                    file = link.open("rb", buffering=0)
                    if pid < os.getpid() or os.fstat(file.fileno()).st_size > 0:
                        return file
                    file.close()
    return None


def _other_instances() -> list[int]:
    """Return the ids of the other processes with this one's parent, the smallest first."""
    me, parent = os.getpid(), os.getppid()
    pids = sorted(int(entry.name) for entry in _PROCESSES.iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != me and _parent(pid) == parent]


def _name(link: Path) -> str | None:
    """Return the name of an open memory file; None of another file."""
    with suppress(OSError):
        target = os.readlink(link)  # noqa: PTH115  pathlib would take it for a path
        if target.startswith("/memfd:"):
            return target.removeprefix("/memfd:").removesuffix(" (deleted)")
    return None


def _parent(pid: int) -> int | None:
    with suppress(OSError):
        return int((_PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return None
