"""Audio that a caller names by URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urljoin

import aiohttp

from .addresses import AddressNotAllowed, check_url, guarded_session

_TIMEOUT_S = 60.0
_MOST_REDIRECTS = 5
_BLOCK = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)


class FetchFailed(Exception):
    """The audio cannot be fetched; the message says why."""


def check_host(url: str, hosts: Sequence[str]) -> None:
    """Refuse a URL whose host is not on the list.

    Args:
        url: of http or https.
        hosts: names, or `*.example.org` for all names below it.

    Raises:
        AddressNotAllowed: it is not.
    """
    host = check_url(url)
    for allowed in hosts:
        if host == allowed or (allowed.startswith("*.") and host.endswith(allowed[1:])):
            return
    raise AddressNotAllowed(f"audio is not fetched from {host}; the service has a list of hosts")


@asynccontextmanager
async def fetch(
    url: str, hosts: Sequence[str], networks: Sequence[str]
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield the body at a URL in blocks. Redirects are followed to where a caller could have asked for.

    Args:
        url: of http or https.
        hosts: as for check_host.
        networks: as for guarded_session.

    Raises:
        FetchFailed: it cannot be fetched; also while the body is read.
    """
    try:
        for _ in range(_MOST_REDIRECTS + 1):
            check_host(url, hosts)
            async with (
                guarded_session(url, networks, _TIMEOUT_S) as session,
                session.get(
                    url, allow_redirects=False, headers={"accept-encoding": "identity"}
                ) as response,
            ):
                if response.status in _REDIRECTS and "location" in response.headers:
                    url = urljoin(url, response.headers["location"])
                    continue
                if response.status != 200:
                    raise FetchFailed(f"{url} answered with status {response.status}.")
                yield _blocks(response)
                return
        raise FetchFailed(f"{url} is redirected more than {_MOST_REDIRECTS} times.")
    except AddressNotAllowed as e:
        raise FetchFailed(f"{url} cannot be fetched: {e}.") from e
    except (asyncio.TimeoutError, TimeoutError) as e:
        raise FetchFailed(f"{url} did not answer in time.") from e
    except aiohttp.ClientError as e:
        raise FetchFailed(f"{url} cannot be fetched: {e}.") from e


async def _blocks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for block in response.content.iter_chunked(_BLOCK):
        yield block
