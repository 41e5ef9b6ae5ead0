"""Retries and repeated requests: servers that are played, in virtual time."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from lipsync_client import (
    InputError,
    NotAllowed,
    Overloaded,
    Rejected,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
)
from lipsync_client._transports.replicas import Replicas
from support.played_servers import (
    HANGS,
    RECONNECT_TIMEOUT_S,
    REQUEST,
    Played,
    PlayedStream,
    ask,
    played,
)
from support.virtual_time import now, run


def test_requests_go_to_the_server_with_the_fewest_in_flight() -> None:
    replicas, servers = played([1.0], [1.0])

    async def work() -> None:
        await asyncio.gather(*(ask(replicas) for _ in range(10)))

    run(work())
    assert [len(s.calls) for s in servers] == [5, 5]


@pytest.mark.parametrize(
    "error", [Unreachable("gone"), ServerLost("gone"), ServerTimeout("504"), Overloaded("full")]
)
def test_another_server_is_asked_at_once(error: ServerError) -> None:
    replicas, servers = played([(0.0, error)], [1.0])

    async def work() -> None:
        assert (await ask(replicas))[0] == servers[1].url
        assert now() == 1.0

    run(work())


@pytest.mark.parametrize("error", [Rejected("bad"), NotAllowed("no token"), ServerError("other")])
def test_a_refusal_is_final(error: ServerError) -> None:
    replicas, servers = played([(0.0, error)], [1.0])
    with pytest.raises(type(error)):
        run(ask(replicas))
    assert [len(s.calls) for s in servers] == [1, 0]


def test_a_slow_server_is_overtaken_and_left_alone() -> None:
    replicas, (slow, quick) = played([1.0, HANGS], [1.0])

    async def work() -> None:
        await asyncio.gather(ask(replicas), ask(replicas))  # both usually take a second
        begun = now()
        assert (await ask(replicas))[0] == quick.url
        assert now() - begun == 4.0 + 1.0  # four times the usual, and a second
        await ask(replicas)

    run(work())
    assert len(slow.calls) == 2
    assert slow.ended == 2, "the call that was overtaken is cancelled"


def test_a_server_that_rests_is_not_asked() -> None:
    replicas, (dead, slow) = played([(0.0, Unreachable("gone"))], [10.0])

    async def work() -> None:
        assert (await ask(replicas))[0] == slow.url
        # Every 2 s a second server is looked for; this one rests 0.5, 1, 2 and 4 s after its failures.
        assert dead.calls == [0.0, 2.0, 4.0, 6.0, 10.0]

    run(work())


def test_one_server_that_hangs_is_asked_again() -> None:
    """Behind one URL there may be a gateway with several replicas, one of which hangs."""
    replicas, (gateway,) = played([HANGS, 1.0])

    async def work() -> None:
        await ask(replicas, timeout_s=120.0)
        assert gateway.calls == [0.0, 30.0]
        assert now() == 31.0

    run(work())
    assert gateway.ended == 2


def test_one_server_is_asked_three_times_at_most() -> None:
    replicas, (server,) = played([HANGS])

    async def work() -> None:
        with pytest.raises(ServerTimeout, match=r"grpc://a:8001 did not answer within 120 s"):
            await ask(replicas, timeout_s=120.0)
        assert now() == pytest.approx(120.0)

    run(work())
    assert server.calls == [0.0, 30.0, 60.0]
    assert server.ended == 3


def test_a_server_that_is_always_slow_is_asked_once() -> None:
    replicas, (server,) = played([20.0, 20.0, 75.0])

    async def work() -> None:
        for _ in range(3):
            await ask(replicas, timeout_s=120.0)

    run(work())
    assert len(server.calls) == 3


def test_a_request_of_a_live_session_is_not_repeated_at_one_server() -> None:
    replicas, (server,) = played([HANGS])

    async def work() -> None:
        with pytest.raises(ServerTimeout):
            await ask(replicas, timeout_s=5.0)

    run(work())
    assert server.calls == [0.0]


def test_servers_that_never_answered_are_not_waited_for() -> None:
    replicas, servers = played([(0.0, Unreachable("a"))], [(0.0, Unreachable("b"))])

    async def work() -> None:
        with pytest.raises(Unreachable):
            await ask(replicas)
        assert now() == 0.0

    run(work())
    assert [len(s.calls) for s in servers] == [1, 1]


@pytest.mark.parametrize("error", [ServerLost("gone"), UnknownAvatar("unknown model")])
def test_servers_that_answered_are_waited_for(error: ServerError) -> None:
    """A server that stops or starts does not know its models."""
    back_after = 7
    replicas, (server,) = played([1.0, *[(0.0, error)] * back_after, 1.0])

    async def work() -> None:
        await ask(replicas)
        await ask(replicas)
        assert 1.0 < now() - 1.0 < RECONNECT_TIMEOUT_S

    run(work())
    assert len(server.calls) == 1 + back_after + 1


def test_lost_servers_are_waited_for_so_long_and_no_longer() -> None:
    replicas, (server,) = played([1.0, (0.0, ServerLost("gone"))])

    async def work() -> None:
        await ask(replicas)
        with pytest.raises(ServerLost):
            await ask(replicas)
        assert RECONNECT_TIMEOUT_S <= now() - 1.0 <= RECONNECT_TIMEOUT_S + 1.0

    run(work())
    pauses = np.diff(server.calls[1:])
    assert pauses.max() <= 0.75, "a server that is back is noticed within a second"


def test_a_server_may_be_away_for_days() -> None:
    replicas, (server,) = played([1.0, (0.0, ServerLost("gone"))])

    async def work() -> None:
        await ask(replicas)
        while len(server.calls) <= 2000:
            with pytest.raises(ServerLost):
                await ask(replicas)

    run(work())


def test_an_avatar_that_no_server_knows() -> None:
    error = UnknownAvatar("unknown model")
    replicas, servers = played([(0.0, error)], [(0.0, error)])
    with pytest.raises(UnknownAvatar):
        run(ask(replicas))
    assert [len(s.calls) for s in servers] == [1, 1]


def test_a_full_server_is_asked_until_the_time_is_over() -> None:
    replicas, (server,) = played([(0.0, Overloaded("full"))])

    async def work() -> None:
        with pytest.raises(Overloaded):
            await ask(replicas, timeout_s=20.0)
        assert now() == pytest.approx(20.0)

    run(work())
    assert len(server.calls) > 20


def test_a_cancelled_request_leaves_nothing_in_flight() -> None:
    replicas, servers = played([HANGS], [HANGS])

    async def work() -> None:
        task = asyncio.create_task(ask(replicas))
        await asyncio.sleep(10.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())
    assert [len(s.calls) for s in servers] == [s.ended for s in servers] == [1, 1]


def streamed(*servers: Played) -> tuple[list[str], float]:
    """Return the servers that the responses came from, and the time it took."""

    async def work() -> tuple[list[str], float]:
        responses = Replicas(servers, RECONNECT_TIMEOUT_S).stream(REQUEST, 100.0)
        return [str(r.frames[0]) async for r in responses], now()

    return run(work())


def test_a_stream_that_does_not_begin_is_begun_elsewhere() -> None:
    gone, hangs = (0.0, Unreachable("gone")), HANGS
    assert streamed(PlayedStream("a", [gone]), PlayedStream("b", [1.0])) == (["b"] * 3, 3.0)
    assert streamed(PlayedStream("a", [hangs]), PlayedStream("b", [1.0])) == (["b"] * 3, 53.0)
    frames, seconds = streamed(PlayedStream("a", [hangs, 1.0]))
    assert frames == ["a"] * 3
    assert seconds == pytest.approx(53.0, abs=1.0)


def test_a_stream_that_has_begun_is_not_repeated() -> None:
    first = PlayedStream("a", [1.0, (1.0, ServerLost("gone"))])
    second = PlayedStream("b", [1.0])
    with pytest.raises(ServerLost):
        streamed(first, second)
    assert second.calls == []


def test_a_stream_needs_grpc() -> None:
    with pytest.raises(InputError, match="needs gRPC"):
        streamed(Played("http://a:8000", [1.0]))
