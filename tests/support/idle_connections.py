"""TCP connections that are opened and never used."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def idle_connections(port: int, sources: list[str], number: int) -> Iterator[None]:
    """Hold TCP connections that say nothing; those that the gateway closes are opened again."""
    stop = threading.Event()

    def keep(source: str) -> None:
        sockets: list[socket.socket] = []
        while not stop.is_set():
            for connection in list(sockets):
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    if connection.recv(1):
                        continue
                    sockets.remove(connection)
                    connection.close()
            while len(sockets) < number and not stop.is_set():
                connection = socket.socket()
                connection.bind((source, 0))
                connection.settimeout(0.2)
                try:
                    connection.connect(("127.0.0.1", port))
                except OSError:
                    connection.close()
                    break
                connection.setblocking(False)
                sockets.append(connection)
            stop.wait(0.2)
        for connection in sockets:
            connection.close()

    threads = [threading.Thread(target=keep, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()
