"""Clients that are opened late, closed early or never, forked, interrupted, or sent to the wrong port."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lipsync_client import (
    AsyncLipSyncClient,
    ClientClosed,
    FormatError,
    InputError,
    LipSyncClient,
    OutputFormat,
    RenderOptions,
    ServerError,
    Unreachable,
)
from lipsync_embedded import Server
from support.audio_files import write_wav


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    return server.grpc_url if request.param == "grpc" else server.http_url


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return write_wav(folder / "clip.wav", 16000, 1, seconds=20)


def program(text: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, which must end by itself."""
    command = [sys.executable, "-c", "from lipsync_client import *\nimport sys\n" + text]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_a_blocking_client_without_with(url: str, clip: Path) -> None:
    client = LipSyncClient(url)
    chunks = client.render(clip, "toy", RenderOptions(chunk=8))
    assert len(next(chunks).frames) == 8
    client.close()
    client.close()
    with pytest.raises(ClientClosed):
        next(chunks)
    with pytest.raises(ClientClosed, match="make a new one"):
        client.avatars()
    with pytest.raises(ClientClosed), client:
        pass


def test_an_async_client_without_with(url: str, clip: Path) -> None:
    client = AsyncLipSyncClient(url)

    async def use() -> None:
        assert [a.name for a in await client.avatars()] == ["toy", "wide"]
        together = await asyncio.gather(client.avatar("toy"), client.avatar("wide"))
        assert [a.name for a in together] == ["toy", "wide"]

    async def use_and_close() -> None:
        await use()
        rendering = asyncio.create_task(client.render_to_file(clip, clip.with_name("x.mp4"), "toy"))
        await asyncio.sleep(0.3)
        await client.aclose()
        await client.aclose()
        with pytest.raises(ClientClosed):
            await rendering
        with pytest.raises(ClientClosed):
            await client.avatars()

    if url.startswith("grpc"):  # aiohttp warns of a session whose loop has ended
        asyncio.run(use())
    asyncio.run(use_and_close())
    assert list(clip.parent.glob("*x.mp4*")) == []


def test_a_client_belongs_to_one_event_loop(url: str) -> None:
    async def elsewhere(client: AsyncLipSyncClient) -> None:
        await client.avatars()

    async def work() -> None:
        async with AsyncLipSyncClient(url) as client:
            with pytest.raises(InputError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, elsewhere(client))

    asyncio.run(work())


def test_a_callback_cannot_call_its_client(url: str, clip: Path, tmp_path: Path) -> None:
    with (
        LipSyncClient(url) as client,
        pytest.raises(InputError, match="callback of a client cannot call the same client"),
    ):
        client.render_to_file(
            clip,
            tmp_path / "x.mp4",
            "toy",
            progress=lambda *_: client.avatars() and None,  # type: ignore[arg-type]
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("use", ["client.avatars()", "print(next(client.render(*sys.argv[2:])))"])
def test_a_client_that_nobody_closes_does_not_keep_the_process(
    url: str, clip: Path, use: str
) -> None:
    done = program(f"client = LipSyncClient(sys.argv[1])\n{use}", url, clip, "toy")
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_frames_are_awaited(url: str, clip: Path) -> None:
    text = """
import os, signal, threading
client = LipSyncClient(sys.argv[1])
interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
try:
    for chunk in client.render(*sys.argv[2:], RenderOptions("FRAMES")):
        if chunk.start == 0:
            interrupt.start()
except KeyboardInterrupt:
    print("interrupted;", len(client.avatars()), "avatars")
"""
    done = program(text, url, clip, "wide")
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted; 2 avatars\n", "")


FORK = """
import os
{before}
child = os.fork()
if child == 0:
    try:
        {inside}
    except UnsupportedProcess as error:
        print(error)
    os._exit(0)
os.waitpid(child, 0)
print(len(LipSyncClient(sys.argv[1]).avatars()))
"""


def test_a_client_inherited_by_a_fork(url: str) -> None:
    before = "client = LipSyncClient(sys.argv[1]); client.avatars()"
    done = program(FORK.format(before=before, inside="client.avatars()"), url)
    assert "make a client in each process" in done.stdout
    assert done.stdout.endswith("\n2\n")


def test_a_client_made_in_a_fork(server: Server) -> None:
    own = "print(len(LipSyncClient(sys.argv[2]).avatars()), flush=True)"
    used = "LipSyncClient(sys.argv[1]).avatars()"
    done = program(FORK.format(before=used, inside=own), server.grpc_url, server.grpc_url)
    assert "forked from one that had used gRPC" in done.stdout
    for before, inside in ((used, server.http_url), ("", server.grpc_url)):
        done = program(FORK.format(before=before, inside=own), server.grpc_url, inside)
        assert done.stdout == "2\n2\n", done.stderr


def test_gevent_is_refused(url: str) -> None:
    text = "import gevent.monkey\ngevent.monkey.patch_all()\nLipSyncClient(sys.argv[1]).avatars()"
    done = program(text, url)
    assert done.returncode == 1
    assert "UnsupportedProcess: the client runs an event loop, which does not" in done.stderr


def test_the_wrong_port(server: Server) -> None:
    http, grpc = (int(u.rpartition(":")[2]) for u in (server.http_url, server.grpc_url))
    metrics = int(server.metrics_url.split(":")[2].split("/")[0])
    for wrong in (f"http://127.0.0.1:{metrics}", f"http://127.0.0.1:{grpc}"):
        for ask in (LipSyncClient.avatars, LipSyncClient.info, LipSyncClient.health):
            with (
                LipSyncClient(wrong) as client,
                pytest.raises(ServerError, match="does not speak Triton's protocol"),
            ):
                ask(client)
    for wrong in (f"grpc://127.0.0.1:{metrics}", f"grpc://127.0.0.1:{http}", "http://no.invalid"):
        with LipSyncClient(wrong) as client, pytest.raises(Unreachable, match="and its port"):
            client.avatars()


class _Proxy(BaseHTTPRequestHandler):
    """A proxy that answers every request itself."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        self.send_response(200 if self.command == "GET" else 502)
        self.end_headers()
        self.wfile.write(b'{"name": "the proxy"}')

    do_CONNECT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An environment with a proxy; the list is what the proxy was asked."""
    _Proxy.seen = []
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    Thread(target=proxy.serve_forever, daemon=True).start()
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("no_proxy", "direct.invalid")
    yield _Proxy.seen
    proxy.shutdown()
    proxy.server_close()


def test_loopback_uses_no_proxy(url: str, proxied: list[str]) -> None:
    for address in (url, url.replace("127.0.0.1", "localhost")):
        with LipSyncClient(address) as client:
            assert client.info()["version"] == "2.51.0"
    assert proxied == []


def test_other_addresses_use_the_proxy_unless_no_proxy_names_them(proxied: list[str]) -> None:
    with LipSyncClient("http://lips.invalid:8000") as client:
        assert client.info() == {"name": "the proxy"}
    with LipSyncClient("grpc://lips.invalid:8001") as client, pytest.raises(ServerError):
        client.info()
    assert proxied[0] == "GET http://lips.invalid:8000/v2"
    assert set(proxied[1:]) == {"CONNECT lips.invalid:8001"}
    proxied.clear()
    for scheme in ("http", "grpc"):
        with LipSyncClient(f"{scheme}://direct.invalid") as client, pytest.raises(Unreachable):
            client.info()
    assert proxied == []


def test_an_output_that_the_format_is_not_made_of(server: Server, clip: Path) -> None:
    with (
        LipSyncClient(server.grpc_url) as client,
        pytest.raises(FormatError, match="mp4 is made from H264, and the options ask for JPEG"),
    ):
        client.render_to_file(
            clip,
            clip.with_name("x.mp4"),
            "toy",
            RenderOptions("JPEG"),
            output_format=OutputFormat("mp4"),
        )
