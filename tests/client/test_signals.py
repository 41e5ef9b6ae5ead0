"""Signals that end a command."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# The signal comes in a callback of C code, which swallows what a handler raises, as some of gRPC's do.
PROGRAM = """
import asyncio, ctypes, signal, sys
from lipsync_client._cli.signals import run_until_signal, unwind_on_signals

@ctypes.CFUNCTYPE(None)
def callback():
    signal.raise_signal(int(sys.argv[1]))

async def work():
    asyncio.get_running_loop().call_soon(callback)
    try:
        await asyncio.sleep(30)
    finally:
        print("undone", flush=True)

unwind_on_signals()
handler = signal.getsignal(signal.SIGTERM)
try:
    run_until_signal(work())
finally:
    assert signal.getsignal(signal.SIGTERM) == handler
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -signal.SIGINT)],
)
def test_a_signal_in_a_callback_is_not_lost(number: signal.Signals, code: int) -> None:
    def as_usual() -> None:
        for one in (signal.SIGINT, signal.SIGHUP):
            signal.signal(one, signal.SIG_DFL)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number))],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=as_usual,
    )
    assert done.stdout == "undone\n"
    assert done.returncode == code
    assert number == signal.SIGINT or not done.stderr
