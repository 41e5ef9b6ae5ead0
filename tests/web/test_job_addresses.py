"""URLs of callers lead to public addresses, and to no others."""

from __future__ import annotations

import asyncio

import pytest

from lipsync_web.jobs.addresses import AddressNotAllowed, check_address, check_url, guarded_session
from lipsync_web.jobs.fetch import check_host
from support.jobs import Receiver


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses(address: str) -> None:
    check_address(address, ())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
    ],
)  # fmt: skip
def test_other_addresses(address: str) -> None:
    with pytest.raises(AddressNotAllowed):
        check_address(address, ())


def test_networks_that_are_allowed() -> None:
    check_address("10.1.2.3", ("192.168.0.0/16", "10.0.0.0/8"))
    with pytest.raises(AddressNotAllowed):
        check_address("10.1.2.3", ("10.2.0.0/16", "fc00::/7"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "2130706433", "0x7f000001", "127.1", "017700000001"]
)
def test_no_spelling_of_this_machine_is_reached(host: str, receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2]
    receiver.files["/secret"] = b"inside"

    async def ask() -> bytes:
        url = f"http://{host}:{port}/secret"
        async with guarded_session(url, (), 10) as session, session.get(url) as response:
            return await response.read()

    with pytest.raises(AddressNotAllowed):
        asyncio.run(ask())


@pytest.mark.parametrize(
    "url", ["", "example.org", "ftp://example.org/", "http://", "http://a:b@example.org/",
            "http://example.org:99999/", "http://[::1", "http://example.org/a b", "http://exa\nmple.org/"],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(AddressNotAllowed):
        check_url(url)


def test_the_list_of_hosts() -> None:
    hosts = ("media.example.org", "*.example.net")
    for url in (
        "https://media.example.org/a",
        "http://MEDIA.example.org:8080/",
        "http://a.b.example.net/",
    ):
        check_host(url, hosts)
    for url in (
        "http://example.org/", "http://example.net/", "http://media.example.org.evil.com/", "http://anexample.net/",
        "http://evil.com/?media.example.org", "http://evil.com#media.example.org",
    ):  # fmt: skip
        with pytest.raises(AddressNotAllowed):
            check_host(url, hosts)
