"""One of two servers killed, stopped or robbed of a process at any moment of a render: nothing is lost.

tests/service/test_replicas.py does each once; here it is twenty times, and whole output files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from lipsync_client import LipSyncClient, RenderOptions, ServerError
from lipsync_embedded import Server
from support.servers import family, harm
from support.triton_calls import frames_made, processes, shared_memory, speech

TIMES = 20
FRAMES = 374  # of the clip
OPTIONS = RenderOptions(chunk=8)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5400)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, speech(15.0), 16_000)
    return path


def render(
    urls: str,
    clip: Path,
    output: Path,
    progress: Callable[[int, int | None], None] | None = None,
) -> bytes:
    """Return the file of a rendered clip."""
    with LipSyncClient(urls) as client:
        client.render_to_file(clip, output, "toy", OPTIONS, force=True, progress=progress)
    return output.read_bytes()


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
    shared = 0
    for turn in range(TIMES):
        other = victim.healthy()
        protocol = ("grpc_url", "http_url")[turn % 2]
        urls = f"{getattr(other, protocol)},{getattr(server, protocol)}"
        undisturbed = render(urls, clip, tmp_path / "whole.mp4")
        before = frames_made(other, "toy_generator")
        moment = chance.randrange(FRAMES - 50)  # frames
        made: list[int] = []

        def strike(
            done: int,
            _: int | None,
            other: Server = other,
            moment: int = moment,
            made: list[int] = made,
        ) -> None:
            if done > moment and not made:
                made.append(frames_made(other, "toy_generator"))
                harm(other, how)

        output = render(urls, clip, tmp_path / "out.mp4", strike)
        assert output == undisturbed, f"turn {turn}, after {moment} frames"
        shared += made[0] > before
        print(f"{how} {turn}: after {moment} frames")
    print(f"{how}: {shared} of {TIMES} after it had made frames")
    assert shared >= TIMES / 2
