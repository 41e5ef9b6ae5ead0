"""Server URLs and the addresses behind them."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from .._errors import InputError

# Triton's ports, and the gateway's.
_DEFAULT_PORTS = {"grpc": 8001, "grpcs": 8443, "http": 8000, "https": 8443}


@dataclass(frozen=True)
class Address:
    """A server's address.

    Attributes:
        scheme: grpc, grpcs, http or https.
        host: a name or an IP address, without brackets.
        port: TCP port.
        proxied: the server is reached through the proxy that the environment names.
    """

    scheme: str
    host: str
    port: int
    proxied: bool = False

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read SCHEME://HOST:PORT.

        Raises:
            InputError: the URL is of another form.
        """
        expected = (
            "the server's URL must be grpc://HOST:PORT or http://HOST:PORT (grpcs:// or https://"
            f" with TLS), got {url!r}"
        )
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as e:  # a port that is no number or over 65535, a broken IPv6 address
            raise InputError(f"{expected}: {e}") from e
        if parts.scheme not in _DEFAULT_PORTS or not host or port == 0:
            raise InputError(expected)
        if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
            raise InputError(f"{expected}: only the scheme, the host and the port can be given")
        return cls(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])

    @property
    def target(self) -> str:
        """HOST:PORT, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.target}"

    @property
    def grpc(self) -> bool:
        return self.scheme.startswith("grpc")

    @property
    def secure(self) -> bool:
        """True if the connection uses TLS."""
        return self.scheme.endswith("s")

    @property
    def loopback(self) -> bool:
        """True for an address of this machine alone."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False

    @property
    def has_proxy(self) -> bool:
        """True if the environment names a proxy for this address; never for a loopback address."""
        proxies = getproxies_environment()  # http_proxy and its like, except no_proxy
        if self.grpc:
            found = any(proxies.get(name) for name in ("grpc", "https", "http"))
        else:
            found = bool(proxies.get(self.scheme))
        return found and not self.loopback and not proxy_bypass(self.host)


def parse_urls(urls: str) -> list[Address]:
    """Return the addresses of URLs that are separated by commas.

    Raises:
        InputError: there is none, or one has another form.
    """
    addresses = [Address.parse(url.strip()) for url in urls.split(",") if url.strip()]
    if not addresses:
        raise InputError("expected the server's URL, such as grpc://127.0.0.1:8001; got nothing")
    return list(dict.fromkeys(addresses))


def check_private(addresses: Iterable[Address]) -> None:
    """Check that a token reaches every address over TLS or within this machine.

    Raises:
        InputError: whoever is between could read it.
    """
    for address in addresses:
        if not address.secure and not address.loopback:
            raise InputError(
                f"the token would be sent to {address.url} without TLS, where others can read it: use"
                f" {address.scheme}s://, or allow it with --insecure (in the library: insecure=True)"
            )


async def resolve(address: Address) -> list[Address]:
    """Return the addresses to connect to: one for each IP address of a name.

    A name is left as it is if it has one IP address or none, if a proxy resolves it, and with TLS, where the
    certificate is for the name.
    """
    if address.has_proxy:
        return [replace(address, proxied=True)]
    if address.secure or address.loopback:
        return [address]
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):  # the first call reports it
        return [address]
    hosts = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    if len(hosts) < 2:
        return [address]
    return [replace(address, host=host) for host in hosts]
