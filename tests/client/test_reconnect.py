"""A gRPC client goes on looking for a server that is away, however long."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from lipsync_client import AsyncLipSyncClient, ServerError

# gRPC's own pauses grow to 2 minutes: the 16 attempts would take it 24 of them. The client's are 1 s at most.
ATTEMPTS = 16
DEADLINE_S = 200.0


@pytest.mark.slow
def test_the_attempts_to_reconnect_do_not_become_rare() -> None:
    attempts = threading.Semaphore(0)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.close()
                attempts.release()

        threading.Thread(target=refuse, daemon=True).start()

        async def work() -> None:
            async with AsyncLipSyncClient(
                f"grpc://127.0.0.1:{listener.getsockname()[1]}"
            ) as client:
                deadline = time.monotonic() + DEADLINE_S
                seen = 0
                while seen < ATTEMPTS:
                    assert time.monotonic() < deadline, f"only {seen} attempts"
                    with pytest.raises(ServerError):
                        await client.info()
                    await asyncio.sleep(0.05)
                    while attempts.acquire(blocking=False):
                        seen += 1

        asyncio.run(work())
        listener.shutdown(socket.SHUT_RDWR)
