"""URLs that callers name: which addresses they may lead to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address


class AddressNotAllowed(Exception):
    """The URL leads where callers may not send this service."""


class _GuardedResolver(AbstractResolver):
    """A resolver that returns no address but allowed ones; the connection is made to what it returned."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = networks
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            check_address(result["host"], self._networks)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def check_address(text: str, networks: Sequence[str]) -> None:
    """Refuse an address that is not public and in none of the networks.

    Raises:
        AddressNotAllowed: it is private, of this machine or of its link, reserved, or for many receivers.
    """
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        address = inner or address
    if address.is_global and not address.is_multicast and not address.is_reserved:
        return
    if any(address in ipaddress.ip_network(network) for network in networks):
        return
    raise AddressNotAllowed(f"{text} is not a public address")


def check_url(url: str) -> str:
    """Return the host of a URL in lower case.

    Raises:
        AddressNotAllowed: it is not http(s)://HOST/..., or has a user name in it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as e:
        raise AddressNotAllowed(f"it is no URL: {e}") from e
    if parts.scheme not in ("http", "https") or not host:
        raise AddressNotAllowed("it must begin with https:// or http:// and a host")
    if parts.username is not None or parts.password is not None:
        raise AddressNotAllowed("it must not hold a user name or a password")
    if host.replace(".", "").isdigit() and not _is_address(host):
        raise AddressNotAllowed(
            f"{host} is no address with four numbers"
        )  # 2130706433 is 127.0.0.1
    if not url.isprintable() or " " in url:
        raise AddressNotAllowed("it holds characters that no URL has")
    return host.lower().rstrip(".")


@asynccontextmanager
async def guarded_session(
    url: str, networks: Sequence[str], timeout_s: float
) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session that connects to public addresses only, and to those in `networks`.

    Args:
        url: the first URL that will be asked for. An address in its place of a host is checked at once; for
            names that is done when they are resolved, and the connection goes to what was checked.
        networks: in CIDR form.
        timeout_s: longest time for a request.

    Raises:
        AddressNotAllowed: the URL cannot be used.
    """
    host = check_url(url)
    if _is_address(host):
        check_address(host, networks)
    connector = aiohttp.TCPConnector(resolver=_GuardedResolver(networks), use_dns_cache=False)
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, trust_env=False, auto_decompress=False
    ) as session:
        yield session


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
