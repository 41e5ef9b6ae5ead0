"""Connections to Triton through tritonclient's blocking clients, which gevent makes cooperative.

The project's own client uses asyncio, which does not run under gevent; only its arithmetic is used here.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import gevent.queue
import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from lipsync_client import protocol
from lipsync_client._render import FIRST_CHUNK
from lipsync_client._transports.errors import to_error

from .failures import WrongResponse
from .settings import Endpoint

Tensors = dict[str, NDArray[Any]]


def slice_tensors(
    samples: NDArray[np.float32], first: int, count: int, *, live: bool = False
) -> Tensors:
    """Return the inputs of one request: the slice of a clip that the frames need.

    Args:
        samples: the clip, float32 [n], 16 kHz.
        live: do not send the clip's length, as if it were still being recorded.
    """
    length = protocol.LIVE if live else len(samples)
    begin, end = protocol.sample_range(length, first, count)
    numbers = {
        "AUDIO_START": begin,
        "CLIP_SAMPLES": length,
        "FRAME_START": first,
        "FRAME_COUNT": count,
    }
    return {"AUDIO": np.ascontiguousarray(samples[begin:end])} | {
        name: np.array([value], np.int64) for name, value in numbers.items()
    }


def cut_chunks(total: int, largest: int) -> Iterator[tuple[int, int]]:
    """Yield the first frame and the number of frames of each request: a small one first, as in the client."""
    first, count = 0, min(largest, FIRST_CHUNK)
    while first < total:
        yield first, min(count, total - first)
        first, count = first + count, largest


class TimedConnection(Protocol):
    """A connection whose calls end within the request timeout; every method may raise a ServerError."""

    type: str  # Locust's request type

    def config(self, model: str) -> dict[str, Any]: ...
    def models(self) -> list[str]: ...
    def infer(self, model: str, tensors: Tensors, output: str, count: int) -> None: ...
    def close(self) -> None: ...


class _TritonConnection:
    """The part that both protocols share."""

    _module: Any  # tritonclient.grpc or tritonclient.http
    _client: Any

    def __init__(self, url: str, timeout_s: float, headers: dict[str, str]) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._headers = headers

    def infer(self, model: str, tensors: Tensors, output: str, count: int) -> None:
        """Request frames.

        Raises:
            WrongResponse: another number of frames came.
        """
        outputs = [self._module.InferRequestedOutput(output)]
        result = self._call(self._client.infer, model, self._inputs(tensors), outputs=outputs)
        frames = result.as_numpy(output)
        received = 0 if frames is None else len(frames)
        if received != count:
            raise WrongResponse(f"expected {count} frames in {output}, got {received}")

    def close(self) -> None:
        self._client.close()

    def _inputs(self, tensors: Tensors) -> list[Any]:
        inputs = []
        for name, array in tensors.items():
            tensor = self._module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return inputs

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            # A copy of the headers, as tritonclient writes into them.
            return method(*arguments, headers=dict(self._headers), **options)
        except Exception as e:  # geventhttpclient raises exceptions of many classes
            raise to_error(e, self._url) from e


class GrpcConnection(_TritonConnection):
    """A gRPC channel."""

    type = "gRPC"
    _module = tritonclient.grpc

    def __init__(self, address: Endpoint, timeout_s: float, headers: dict[str, str]) -> None:
        super().__init__(f"grpc://{address.host_port}", timeout_s, headers)
        # Channels with the same target and arguments would share one connection: each user needs its own.
        arguments = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", 2**31 - 1),
            ("grpc.max_receive_message_length", 2**31 - 1),
        ]
        self._client = tritonclient.grpc.InferenceServerClient(
            address.host_port, ssl=address.tls, channel_args=arguments
        )

    def config(self, model: str) -> dict[str, Any]:
        response = self._call(self._client.get_model_config, model, as_json=True)
        return dict(response["config"])

    def models(self) -> list[str]:
        response = self._call(self._client.get_model_repository_index, as_json=True)
        return [m["name"] for m in response.get("models", []) if m.get("state") == "READY"]

    def stream(
        self, model: str, avatar: str, samples: NDArray[np.float32], output: str
    ) -> Iterator[int]:
        """Yield the number of frames of each response of the decoupled model.

        Raises:
            WrongResponse: a response does not begin where the last one ended.
        """
        tensors: Tensors = {
            "AUDIO": np.ascontiguousarray(samples),
            "AVATAR": np.array([avatar.encode()], np.object_),
            "OUTPUT": np.array([output.encode()], np.object_),
        }
        received = 0
        responses: gevent.queue.Queue[Any] = gevent.queue.Queue()
        try:
            self._client.start_stream(
                lambda result, error: responses.put(error or result),
                stream_timeout=self._timeout_s,
                headers=dict(self._headers),
            )
            self._client.async_stream_infer(
                model,
                self._inputs(tensors),
                outputs=[self._module.InferRequestedOutput(o) for o in (output, "FRAME_START")],
                enable_empty_final_response=True,
            )
            while True:
                response = responses.get()
                if isinstance(response, InferenceServerException):
                    raise to_error(response, self._url)
                frames = response.as_numpy(output)
                if frames is not None and len(frames):
                    start = int(response.as_numpy("FRAME_START").flat[0])
                    if start != received:
                        raise WrongResponse(f"expected frame {received} next, got {start}")
                    received += len(frames)
                    yield len(frames)
                final = response.get_response().parameters.get("triton_final_response")
                if final is not None and final.bool_param:
                    return
        finally:
            self._client.stop_stream(cancel_requests=True)

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return super()._call(method, *arguments, client_timeout=self._timeout_s, **options)


class HttpConnection(_TritonConnection):
    """A few connections that are kept open: one for each request in flight."""

    type = "HTTP"
    _module = tritonclient.http

    def __init__(
        self, address: Endpoint, timeout_s: float, headers: dict[str, str], in_flight: int
    ) -> None:
        super().__init__(f"http://{address.host_port}", timeout_s, headers)
        self._client = tritonclient.http.InferenceServerClient(
            address.host_port,
            concurrency=in_flight,
            connection_timeout=timeout_s,
            network_timeout=timeout_s,
            ssl=address.tls,
            ssl_context_factory=ssl.create_default_context if address.tls else None,
        )

    def config(self, model: str) -> dict[str, Any]:
        return dict(self._call(self._client.get_model_config, model))

    def models(self) -> list[str]:
        index = self._call(self._client.get_model_repository_index)
        return [m["name"] for m in index if m.get("state") == "READY"]
