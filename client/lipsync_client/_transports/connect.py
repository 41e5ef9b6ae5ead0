"""From URLs to a backend."""

from __future__ import annotations

from collections.abc import Sequence

from .addresses import Address, resolve
from .grpc import GrpcTransport
from .http import HttpTransport
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
    transports: list[Transport] = []
    for address in found:
        transport = GrpcTransport if address.grpc else HttpTransport
        transports.append(transport(address, credentials))
    return Replicas(transports, reconnect_timeout_s)
