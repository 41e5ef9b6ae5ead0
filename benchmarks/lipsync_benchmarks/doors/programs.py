"""The programs behind the doors: the web service and the example bot, each a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil

from ..case import ROOT

_START_S = 120.0


@contextmanager
def web_service(
    url: str, *options: str, module: str = "lipsync_web.cli"
) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the URL and the process of `lipsync-web`, or of a module like it, for the server at `url`."""
    port = free_port()
    command = ["-m", module, "--url", url, "--port", str(port), *options]
    with _program(command, port) as process:
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def example_bot(url: str) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the URL and the process of the bot of examples/pipecat, which says what it is sent."""
    port = free_port()
    command = [str(ROOT / "examples/pipecat/bot.py"), "--url", url, "--port", str(port)]
    with _program(command, port) as process:
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def _program(command: list[str], port: int) -> Iterator[psutil.Process]:
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + _START_S
    try:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/").raise_for_status()
                break
            except httpx.TransportError as e:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(command)} did not start") from e
                time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
