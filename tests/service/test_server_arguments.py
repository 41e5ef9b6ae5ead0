"""The restrictions of the embedded server's administrative interfaces, without a server."""

from __future__ import annotations

from lipsync_embedded._arguments import restrictions

HTTP, GRPC = "--http-restricted-api", "--grpc-restricted-protocol"


def test_both_protocols_are_restricted() -> None:
    names = "shared-memory,trace,logging"
    assert restrictions("k", False, []) == [
        f"{option}={names}:admin-key=k" for option in (HTTP, GRPC)
    ]
    assert restrictions("k", True, [])[0] == f"{HTTP}={names},model-repository:admin-key=k"


def test_own_restrictions_are_left_to_the_caller_for_their_protocol_alone() -> None:
    """An option of one protocol, or another option that names an interface, opens nothing."""
    own = [f"{HTTP}=logging,statistics:mine=x", "--trace-config=level=TIMESTAMPS"]
    assert restrictions("k", False, own) == [
        f"{HTTP}=shared-memory,trace:admin-key=k",
        f"{GRPC}=shared-memory,trace,logging:admin-key=k",
    ]


def test_what_the_caller_restricts_whole_is_not_restricted_twice() -> None:
    names = "shared-memory,trace,logging"
    own = [f"{HTTP}={names}:mine=x", GRPC, f"{names}:mine=x"]  # tritonserver reads both forms
    assert restrictions("k", False, own) == []
