"""Sessions dropped without goodbye: their processes are killed in the middle of the work."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import psutil
import pytest
import soundfile

from lipsync_embedded import Server
from support import live_sessions
from support.triton_calls import Triton, processes, shared_memory, speech

KINDS = ("stream", "grpc", "http", "grpc", "unread")
AT_ONCE = 2  # processes


@dataclass(frozen=True)
class Held:
    """The resources of the server's processes.

    Attributes:
        pids: of them.
        threads, files: of all of them.
        segments: shared memory by name, bytes really taken.
        memory: unique to each process, MB.
    """

    pids: frozenset[int]
    threads: int
    files: int
    segments: dict[str, int]
    memory: dict[int, float]

    @classmethod
    def by(cls, server: Server) -> Held:
        pids = frozenset(processes(server))
        found = [psutil.Process(pid) for pid in pids]
        return cls(
            pids,
            sum(p.num_threads() for p in found),
            sum(p.num_fds() for p in found),
            {path.name: 512 * path.stat().st_blocks for path in shared_memory(pids)},
            {p.pid: p.memory_full_info().uss / 2**20 for p in found},
        )

    def __str__(self) -> str:
        shm = sum(self.segments.values()) / 2**20
        return (
            f"{len(self.pids)} processes, {self.threads} threads, {self.files} files,"
            f" {len(self.segments)} segments of {shm:.0f} MB, {sum(self.memory.values()):.0f} MB"
        )

    def is_back(self, before: Held, growth: float) -> bool:
        """Nothing more of what is counted, and no more than `growth` times the memory."""
        return (
            self.pids == before.pids
            and self.threads <= before.threads
            and self.files <= before.files
            and self.segments.keys() <= before.segments.keys()
            and sum(self.segments.values()) <= growth * sum(before.segments.values())
            and all(self.memory[pid] <= growth * mb for pid, mb in before.memory.items())
        )


def drop(server: Server, clip: Path, kind: str, count: int) -> None:
    """Sessions of one process, killed after a second's work."""
    arguments = [kind, server.grpc_url, server.http_url, str(clip), str(count)]
    with subprocess.Popen(
        [sys.executable, live_sessions.__file__, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "at work\n", kind
            time.sleep(1.0)
            assert process.poll() is None, kind
        finally:
            process.kill()


def drop_many(server: Server, clip: Path, clients: int, together: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        kinds = islice(cycle(KINDS), clients)
        list(pool.map(lambda kind: drop(server, clip, kind, together), kinds))


@pytest.mark.parametrize(
    ("clients", "together", "growth"),
    # The pools of memory grow to what the load needs, once: so the same load comes first, and is not counted.
    # Six sessions do not fill them.
    [(2, 3, 2.0), pytest.param(50, 10, 1.1, marks=[pytest.mark.soak, pytest.mark.timeout(5400)])],
)
def test_nothing_of_a_dropped_session_is_left(
    server: Server, tmp_path: Path, clients: int, together: int, growth: float
) -> None:
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, speech(120.0), 16_000)
    wave = speech(1.0)
    frames = Triton(server, "grpc").frames("toy", wave, "JPEG").tolist()
    cold = Held.by(server)
    drop_many(server, clip, clients, together)
    before = settled(server)
    drop_many(server, clip, clients, together)
    deadline = time.monotonic() + 120
    while not (after := Held.by(server)).is_back(before, growth) and time.monotonic() < deadline:
        time.sleep(1.0)
    print(f"cold:   {cold}\nbefore: {before}\nafter:  {after}")
    assert after.is_back(before, growth), f"\n{before}\n{after}"
    assert Triton(server, "grpc").frames("toy", wave, "JPEG").tolist() == frames


def settled(server: Server) -> Held:
    """Return the resources once the abandoned work has ended."""
    seen = Held.by(server)
    for _ in range(60):
        time.sleep(1.0)
        last, seen = seen, Held.by(server)
        if (last.threads, last.files) == (seen.threads, seen.files):
            break
    return seen
