"""The response cache: a damaged response counts as none, and one process uses a directory at a time."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipsync_client import InputError
from lipsync_client._transports.replicas import Replicas
from lipsync_client._transports.request import Request, Tensor
from lipsync_client._transports.response_cache import ResponseCache

FRAMES = np.arange(4 * 6 * 8 * 3, dtype=np.uint8).reshape(4, 6, 8, 3)
UNITS = np.array([[b"first"], [b""], [b"third" * 20]], object)


class Counting(Replicas):
    """A backend that counts its requests."""

    def __init__(self, response: Tensor) -> None:
        self.transports: list[Any] = []
        self.response, self.requests = response, 0

    async def infer(self, request: Request, timeout_s: float) -> Tensor:  # noqa: ARG002
        self.requests += 1
        return self.response


REQUEST = Request("toy", {"AUDIO": np.zeros(100, np.float32)}, "H264")


def infer(backend: Counting, directory: Path) -> Tensor:
    with ResponseCache(backend, directory) as cache:
        return asyncio.run(cache.infer(REQUEST, 1.0))


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "zeros at the end": lambda data: data[: len(data) // 2] + bytes(len(data) // 2),
    "a flipped bit": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
}


@pytest.mark.parametrize("response", [FRAMES, UNITS], ids=["frames", "units"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_response_is_requested_again(
    tmp_path: Path, response: Tensor, damage: str
) -> None:
    backend, directory = Counting(response), tmp_path / "chunks"
    for _ in range(2):
        assert same(infer(backend, directory), response)
    assert backend.requests == 1
    (path,) = directory.glob("*.response")
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    for _ in range(2):
        assert same(infer(backend, directory), response)
    assert backend.requests == 2


@pytest.mark.parametrize("response", [FRAMES, UNITS], ids=["frames", "units"])
def test_no_damage_goes_unnoticed(tmp_path: Path, response: Tensor) -> None:
    backend, directory = Counting(response), tmp_path / "chunks"
    infer(backend, directory)
    (path,) = directory.glob("*.response")
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            start, length = chance.randrange(len(data)), chance.randrange(1, 60)
            data[start : start + length] = chance.choice((b"", chance.randbytes(length)))
        path.write_bytes(data)
        assert same(infer(backend, directory), response)


HOLD = """
import sys
from pathlib import Path
from types import SimpleNamespace
from lipsync_client._transports.response_cache import ResponseCache
with ResponseCache(SimpleNamespace(transports=[]), Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_uses_a_directory_at_a_time(tmp_path: Path) -> None:
    directory = tmp_path / "chunks"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    backend = Counting(FRAMES)
    with pytest.raises(InputError, match="another process resumes the render"):
        infer(backend, directory)
    other.kill()
    other.communicate()
    assert same(infer(backend, directory), FRAMES)


def test_what_is_not_of_the_cache_stays(tmp_path: Path) -> None:
    directory = tmp_path / "chunks"
    infer(Counting(FRAMES), directory)
    (directory / "photo.jpg").write_bytes(b"precious")
    (directory / "killed.part").write_bytes(b"half")
    with ResponseCache(Counting(FRAMES), directory) as cache:
        assert not (directory / "killed.part").exists()
        cache.remove()
    assert [p.name for p in directory.iterdir()] == ["photo.jpg"]
    (directory / "photo.jpg").unlink()
    with ResponseCache(Counting(FRAMES), directory) as cache:
        cache.remove()
    assert not directory.exists()
