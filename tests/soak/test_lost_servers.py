"""One of two servers killed, stopped or robbed of a process at any moment of a render: nothing is lost.

tests/service/test_replicas.py does each once; here it is twenty times, and whole output files.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from test_replicas import family, ill_treat

from lipsync_client import LipSyncClient, RenderOptions, ServerError
from lipsync_embedded import Server
from support.triton_calls import frames_made, processes, shared_memory, speech

TIMES = 20
PLAN = RenderOptions(chunk=8)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5400)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, speech(15.0), 16_000)
    return path


def render(urls: str, clip: Path, output: Path) -> tuple[bytes, float]:
    """The file, and the seconds it took."""
    with LipSyncClient(urls) as client:
        summary = client.render_to_file(clip, output, "toy", PLAN, force=True)
    return output.read_bytes(), summary.seconds


class Victim:
    """The second server: killed, it is replaced; stopped, it goes on if it can."""

    def __init__(self, repository: Path, how: str) -> None:
        self._repository, self._how = repository, how
        self._server: Server | None = None
        self._segments: set[Path] = set()

    def healthy(self) -> Server:
        if self._server is not None and self._how == "stopped":
            for process in family(self._server):
                process.resume()
            # Triton may take its Python models for dead when it goes on before they do.
            if self._answers(self._server):
                return self._server
        self.stop()
        self._server = Server(self._repository, models=["toy"], startup_timeout_s=300)
        self._server.start()
        self._segments = shared_memory(processes(self._server))
        assert self._answers(self._server)
        return self._server

    @staticmethod
    def _answers(server: Server) -> bool:
        try:
            with LipSyncClient(server.grpc_url) as client:
                return client.health()["toy"]
        except ServerError:
            return False

    def stop(self) -> None:
        if self._server is None:
            return
        if self._how == "stopped":
            for process in family(self._server):
                process.resume()
        self._server.stop()
        for segment in self._segments:  # its guard, which removes them, is killed too
            segment.unlink(missing_ok=True)


@pytest.fixture
def victim(toy_repository: Path, how: str) -> Iterator[Victim]:
    found = Victim(toy_repository, how)
    yield found
    found.stop()


@pytest.mark.parametrize("how", ["killed", "stopped", "loses a stub"])
def test_every_output_is_whole(
    server: Server, victim: Victim, clip: Path, tmp_path: Path, how: str
) -> None:
    chance = random.Random(how)
    in_the_middle = shared = 0
    for turn in range(TIMES):
        other = victim.healthy()
        protocol = ("grpc_url", "http_url")[turn % 2]
        urls = f"{getattr(other, protocol)},{getattr(server, protocol)}"
        undisturbed, seconds = render(urls, clip, tmp_path / "whole.mp4")
        before = frames_made(other, "toy_generator")
        struck: list[tuple[float, int]] = []

        def strike(other: Server = other, struck: list[tuple[float, int]] = struck) -> None:
            struck.append((time.monotonic(), frames_made(other, "toy_generator")))
            ill_treat(other, how)

        moment = chance.uniform(0.0, 0.8 * seconds)
        timer = threading.Timer(moment, strike)
        timer.start()
        try:
            output, took = render(urls, clip, tmp_path / "out.mp4")
            ended = time.monotonic()
        finally:
            timer.join()
        assert output == undisturbed, f"turn {turn}, {moment:.2f} s of {seconds:.2f} s"
        ((at, made),) = struck
        in_the_middle += at < ended
        shared += made > before
        print(f"{how} {turn}: after {moment:.2f} of {seconds:.2f} s; whole after {took:.2f} s")
    print(f"{how}: {in_the_middle} of {TIMES} in the middle, {shared} after it had made frames")
    assert in_the_middle >= 0.9 * TIMES
    assert shared >= TIMES / 2
