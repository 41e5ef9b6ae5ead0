"""From URLs to a backend."""

from __future__ import annotations

from collections.abc import Sequence

from .addresses import Address, resolve
from .replicas import Replicas
from .request import Credentials, Transport


async def connect(
    addresses: Sequence[Address], credentials: Credentials, reconnect_timeout_s: float
) -> Replicas:
    """Return a backend with a transport for each server; nothing is sent yet.

    A name with several IP addresses is a server at each.

    Raises:
        UnsupportedProcess: gRPC cannot work in this process.
    """
    found: list[Address] = []
    for address in addresses:
        found += [each for each in await resolve(address) if each not in found]
    return Replicas([_transport(address, credentials) for address in found], reconnect_timeout_s)


def _transport(address: Address, credentials: Credentials) -> Transport:
    """Return the connection to one server; the other protocol is not imported, which takes 0.3 s."""
    if address.grpc:
        from .grpc import GrpcTransport

        return GrpcTransport(address, credentials)
    from .http import HttpTransport

    return HttpTransport(address, credentials)
