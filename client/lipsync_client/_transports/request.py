"""Requests, and the interfaces of the objects that answer them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .._errors import InputError

Tensor = NDArray[Any]
JsonObject = dict[str, Any]  # as Triton publishes configs and metadata
# The outputs of an avatar. A new one is added here, and nowhere else in the client.
Output = Literal["FRAMES", "I420", "JPEG", "H264"]
Parameter = str | int | bool


class Parameters(Mapping[str, Parameter]):
    """Request parameters: a mapping that cannot be changed, and can be hashed and pickled."""

    def __init__(self, values: Mapping[str, Parameter] | None = None) -> None:
        self._values = dict(values or {})
        for name, value in self._values.items():
            if not isinstance(name, str) or not isinstance(value, str | int | bool):
                raise InputError(
                    f"a request parameter must be a str, an int or a bool by its name,"
                    f" got {name!r}: {value!r}"
                )

    def __getitem__(self, name: str) -> Parameter:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


@dataclass(frozen=True)
class Credentials:
    """The token and the certificate authority that a client uses.

    Attributes:
        token: sent as `Authorization: Bearer TOKEN`.
        ca_file: PEM of the authority that signed the gateway's certificate; None for those that this machine
            trusts.
        client_id: the same at all servers; the ids of the client's requests begin with it.
        extra_headers: called for each request; returns headers to add, such as W3C's traceparent.

    Raises:
        InputError: the token cannot be sent in a header, or the CA file does not exist.
    """

    token: str | None = field(default=None, repr=False)
    ca_file: str | Path | None = None
    client_id: str = field(default_factory=lambda: secrets.token_hex(4))
    extra_headers: Callable[[], Mapping[str, str]] | None = None

    def __post_init__(self) -> None:
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise InputError(
                "the token must be printable ASCII on one line: check the file or variable it is read from"
            )
        if self.ca_file is not None and not Path(self.ca_file).is_file():
            raise InputError(f"the CA file {self.ca_file} does not exist")

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass(frozen=True)
class Request:
    """A request for one output of a model.

    Attributes:
        model: its name, for an avatar the avatar's name.
        inputs: tensors by name.
        output: name of the output.
        parameters: encoder options.
        queue_s: longest wait in a queue of the server, in seconds: after it the response would be of no use.
            The server refuses the request then, and it is not sent again.
    """

    model: str
    inputs: dict[str, Tensor]
    output: Output
    parameters: Mapping[str, Parameter] = field(default_factory=Parameters)
    queue_s: float | None = None

    @property
    def first_frame(self) -> int:
        """Number of the first frame that is asked for."""
        return int(self.inputs.get("FRAME_START", np.zeros(1, np.int64))[0])


class StreamResponse(NamedTuple):
    """One response of the streaming model.

    Attributes:
        start: number of its first frame.
        frames: its frames, as the output gives them.
    """

    start: int
    frames: Tensor


class Backend(Protocol):
    """An object that answers requests: one server, several servers, or the response cache."""

    async def infer(self, request: Request, timeout_s: float) -> Tensor: ...


class Transport(Backend, Protocol):
    """The connection to one server, over gRPC or HTTP.

    Every method raises a ServerError.
    """

    url: str

    async def config(self, model: str) -> JsonObject: ...
    async def index(self) -> list[JsonObject]: ...
    async def model_ready(self, model: str) -> bool: ...
    async def metadata(self) -> JsonObject: ...
    async def close(self) -> None: ...


@runtime_checkable
class StreamTransport(Transport, Protocol):
    """A transport that the streaming model can be called over."""

    def stream(
        self, request: Request, first_timeout_s: float, timeout_s: float
    ) -> AsyncGenerator[StreamResponse, None]: ...
