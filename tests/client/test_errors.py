"""The table from the errors of Triton, gRPC and HTTP to the library's."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping

import aiohttp
import pytest
from tritonclient.utils import InferenceServerException

import lipsync_client
from lipsync_client import (
    AsyncLipSyncClient,
    InputError,
    LipSyncClient,
    NotAllowed,
    Overloaded,
    QueueTimeout,
    Rejected,
    RenderOptions,
    ServerError,
    ServerLost,
    ServerTimeout,
    UnknownAvatar,
    Unreachable,
    to_error,
)

URL = "grpc://triton.example:8001"


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("StatusCode.UNAVAILABLE", "failed to connect to all addresses", Unreachable),
        ("StatusCode.CANCELLED", "Channel closed!", Unreachable),
        ("StatusCode.UNAVAILABLE", "Request 7 is not healthy: stub process 'mel_0'", Unreachable),
        ("400", "Failed to process: Stub process 'toy_0_0' is not healthy.", Unreachable),
        ("INVALID_ARGUMENT", "Server not ready", Unreachable),
        ("502", "no reason given", Unreachable),
        ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded", ServerTimeout),
        ("504", "Gateway Time-out", ServerTimeout),
        ("408", "Request Time-out", ServerTimeout),
        ("499", "timed out", ServerTimeout),
        ("StatusCode.UNAVAILABLE", "Exceeds maximum queue size", Overloaded),
        ("500", "Exceeds maximum queue size", Overloaded),
        ("StatusCode.UNAVAILABLE", "Request timeout expired", QueueTimeout),
        ("503", "Request timeout expired", QueueTimeout),
        ("StatusCode.UNAVAILABLE", "too many streams", Overloaded),
        ("StatusCode.UNAVAILABLE", "Received http2 header with status: 503", Overloaded),
        ("StatusCode.UNAVAILABLE", "Received http2 header with status: 429", Overloaded),
        ("429", "too many requests", Overloaded),
        ("StatusCode.RESOURCE_EXHAUSTED", "out of shared memory", Overloaded),
        (
            "StatusCode.RESOURCE_EXHAUSTED",
            "Received message larger than max (5 vs. 4)",
            Rejected,
        ),
        ("StatusCode.UNAUTHENTICATED", "Received http2 header with status: 401", NotAllowed),
        ("401", "Unauthorized", NotAllowed),
        ("StatusCode.PERMISSION_DENIED", "Received http2 header with status: 403", NotAllowed),
        ("403", "Forbidden", NotAllowed),
        (
            "StatusCode.UNAVAILABLE",
            "This protocol is restricted, expecting header 'triton-grpc-protocol-key'",
            NotAllowed,
        ),
        ("404", "Request for unknown model: 'anna' is not found", UnknownAvatar),
        ("StatusCode.UNAVAILABLE", "Request for unknown model: 'anna'", UnknownAvatar),
        ("400", "Model 'anna' is not ready", UnknownAvatar),
        ("StatusCode.INVALID_ARGUMENT", "AUDIO is empty", Rejected),
        ("400", "AUDIO is empty", Rejected),
        ("413", "Payload Too Large", Rejected),
        ("404", "<html>Not Found</html>", ServerError),
        ("StatusCode.UNIMPLEMENTED", "unknown method", ServerError),
        ("StatusCode.INTERNAL", "no idea", ServerError),
        (None, "no idea", ServerError),
    ],
)
def test_errors_of_triton_and_of_gateways(
    status: str | None, message: str, kind: type[ServerError]
) -> None:
    error = to_error(InferenceServerException(message, status), URL)
    assert type(error) is kind
    assert message in str(error)
    responded = to_error(InferenceServerException(message, status), URL, responded=True)
    assert type(responded) is (ServerLost if kind is Unreachable else kind)


@pytest.mark.parametrize(
    ("exception", "kind"),
    [
        (TimeoutError("timed out"), ServerTimeout),
        (asyncio.TimeoutError(), ServerTimeout),
        (ConnectionRefusedError(111, "Connection refused"), Unreachable),
        (ConnectionResetError(104, "Connection reset by peer"), Unreachable),
        (aiohttp.ServerDisconnectedError(), Unreachable),
        (OSError(), Unreachable),
    ],
)
def test_errors_of_the_connection(exception: Exception, kind: type[ServerError]) -> None:
    error = to_error(exception, URL)
    assert type(error) is kind
    assert URL in str(error)
    assert str(exception) in str(error)
    assert not str(error).endswith(("()", ": "))


def test_every_error_is_in_the_tree_of_the_module() -> None:
    errors = lipsync_client._errors
    tree = errors.__doc__ or ""
    named = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {name for name in named if f" {name} " not in f" {tree} ".replace("\n", " ")} == set()


@pytest.mark.parametrize(
    "url",
    [
        "",
        " , ",
        "localhost:8001",
        "ftp://localhost",
        "grpc://",
        "grpc://h:99999",
        "grpc://h:abc",
        "grpc://h:0",
        "http://[::1",
        "http://h/v2",
        "http://h?x=1",
        "http://user:secret@h",
    ],
)
def test_urls_that_are_refused_at_once(url: str) -> None:
    for client in (LipSyncClient, AsyncLipSyncClient):
        with pytest.raises(InputError, match=r"grpc://") as refused:
            client(url)
        assert url.strip(" ,") in str(refused.value)


def test_tokens_and_certificates_that_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="printable ASCII") as refused:
        LipSyncClient("grpcs://h", token="secret\n")
    assert "secret" not in str(refused.value)
    with pytest.raises(InputError, match=r"no\.pem does not exist"):
        LipSyncClient("grpcs://h", ca_file="no.pem")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "PNG"}, "output must be one of FRAMES, .*H264, got 'PNG'"),
        ({"chunk": 0}, "chunk must be 1 or more, got 0"),
        ({"in_flight": -1}, "in_flight must be 1 or more, got -1"),
        ({"timeout_s": 0}, "timeout_s must be a number of seconds above 0"),
        ({"timeout_s": float("nan")}, "timeout_s must be a number of seconds above 0"),
        ({"total_timeout_s": -1.0}, "total_timeout_s must be a number of seconds above 0"),
        ({"encoder_options": {"crf": 2.5}}, "a str, an int or a bool by its name, got 'crf': 2.5"),
    ],
)
def test_options_that_are_refused(options: Mapping[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RenderOptions(**options)  # type: ignore[arg-type]


def test_encoder_options_cannot_be_changed() -> None:
    given = {"crf": 20}
    options = RenderOptions(encoder_options=given)
    given["crf"] = 51
    assert options.encoder_options == {"crf": 20}
    with pytest.raises(TypeError):
        options.encoder_options["crf"] = 51  # type: ignore[index]
    assert pickle.loads(pickle.dumps(options)) == options
    assert len({options, RenderOptions(encoder_options={"crf": 20}), RenderOptions()}) == 2


@pytest.mark.parametrize("url", ["http://10.0.0.1:8000", "grpcs://a.test,grpc://b.test:8001"])
def test_a_token_is_not_sent_without_tls_to_another_machine(url: str) -> None:
    with pytest.raises(InputError, match="without TLS, where others can read it"):
        LipSyncClient(url, token="secret")
    LipSyncClient(url, token="secret", insecure=True).close()
    LipSyncClient(url).close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "grpc://localhost", "https://a.test"])
def test_a_token_is_sent_over_tls_and_within_the_machine(url: str) -> None:
    LipSyncClient(url, token="secret").close()
