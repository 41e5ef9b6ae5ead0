"""tritonclient's blocking calls over gRPC and HTTP, which gevent makes cooperative.

The project's own client is an asyncio one, and asyncio does not run under gevent; its arithmetic does.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any, Protocol

import gevent.queue
import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from lipsync_client import protocol as timeline

from .failures import Failure, WrongAnswer, translated

Tensors = dict[str, NDArray[Any]]


def slice_tensors(
    wave: NDArray[np.float32], first: int, count: int, *, live: bool = False
) -> Tensors:
    """Inputs of one request: the slice of `wave` that the frames need.

    Args:
        live: the clip is still being recorded: its length is not told.
    """
    samples = timeline.LIVE if live else len(wave)
    begin, end = timeline.sample_range(samples, first, count)
    numbers = {
        "AUDIO_START": begin,
        "CLIP_SAMPLES": samples,
        "FRAME_START": first,
        "FRAME_COUNT": count,
    }
    return {"AUDIO": np.ascontiguousarray(wave[begin:end])} | {
        name: np.array([value], np.int64) for name, value in numbers.items()
    }


class Connection(Protocol):
    """What both protocols offer; every method raises a Failure."""

    type: str  # Locust's request type

    def config(self, model: str) -> dict[str, Any]: ...
    def models(self) -> list[str]: ...
    def infer(self, model: str, tensors: Tensors, output: str, count: int) -> None: ...
    def close(self) -> None: ...


def _checked(result: Any, output: str, count: int) -> None:
    frames = result.as_numpy(output)
    came = 0 if frames is None else len(frames)
    if came != count:
        raise WrongAnswer(f"expected {count} frames in {output}, got {came}")


class _Base:
    _module: Any
    _client: Any

    def __init__(self, timeout_s: float, headers: dict[str, str]) -> None:
        self._timeout_s = timeout_s
        self._headers = headers

    def _inputs(self, tensors: Tensors) -> list[Any]:
        inputs = []
        for name, array in tensors.items():
            tensor = self._module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return inputs

    def _outputs(self, output: str) -> list[Any]:
        return [self._module.InferRequestedOutput(output)]

    def close(self) -> None:
        self._client.close()


class GrpcConnection(_Base):
    """One channel."""

    type = "gRPC"
    _module = tritonclient.grpc

    def __init__(self, address: str, tls: bool, timeout_s: float, headers: dict[str, str]) -> None:
        super().__init__(timeout_s, headers)
        # Channels with the same target and arguments share a connection otherwise: each user brings its own.
        arguments = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", 2**31 - 1),
            ("grpc.max_receive_message_length", 2**31 - 1),
        ]
        self._client = tritonclient.grpc.InferenceServerClient(
            address, ssl=tls, channel_args=arguments
        )

    def _call(self, method: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return method(
                *arguments, headers=dict(self._headers), client_timeout=self._timeout_s, **options
            )
        except InferenceServerException as e:
            raise translated(e) from e

    def config(self, model: str) -> dict[str, Any]:
        answer = self._call(self._client.get_model_config, model, as_json=True)
        return dict(answer["config"])

    def models(self) -> list[str]:
        answer = self._call(self._client.get_model_repository_index, as_json=True)
        return [m["name"] for m in answer.get("models", []) if m.get("state") == "READY"]

    def infer(self, model: str, tensors: Tensors, output: str, count: int) -> None:
        result = self._call(
            self._client.infer, model, self._inputs(tensors), outputs=self._outputs(output)
        )
        _checked(result, output, count)

    def stream(
        self, model: str, avatar: str, wave: NDArray[np.float32], output: str
    ) -> Iterator[int]:
        """Frames of each answer of the decoupled model, as they come.

        Raises:
            WrongAnswer: an answer is not where the last one ended.
        """
        tensors: Tensors = {
            "AUDIO": np.ascontiguousarray(wave),
            "AVATAR": np.array([avatar.encode()], np.object_),
            "OUTPUT": np.array([output.encode()], np.object_),
        }
        came = 0
        answers: gevent.queue.Queue[Any] = gevent.queue.Queue()
        client = self._client
        try:
            client.start_stream(
                lambda result, error: answers.put(error or result),
                stream_timeout=self._timeout_s,
                headers=dict(self._headers),
            )
            client.async_stream_infer(
                model,
                self._inputs(tensors),
                outputs=[*self._outputs(output), *self._outputs("FRAME_START")],
                enable_empty_final_response=True,
            )
            while True:
                answer = answers.get()
                if isinstance(answer, InferenceServerException):
                    raise translated(answer)
                frames = answer.as_numpy(output)
                if frames is not None and len(frames):
                    start = int(answer.as_numpy("FRAME_START").flat[0])
                    if start != came:
                        raise WrongAnswer(f"expected frame {came} next, got {start}")
                    came += len(frames)
                    yield len(frames)
                final = answer.get_response().parameters.get("triton_final_response")
                if final is not None and final.bool_param:
                    return
        finally:
            client.stop_stream(cancel_requests=True)


class HttpConnection(_Base):
    """A few kept-open connections: one for each request in flight."""

    type = "HTTP"
    _module = tritonclient.http

    def __init__(
        self, address: str, tls: bool, timeout_s: float, headers: dict[str, str], in_flight: int
    ) -> None:
        super().__init__(timeout_s, headers)
        self._client = tritonclient.http.InferenceServerClient(
            address,
            concurrency=in_flight,
            connection_timeout=timeout_s,
            network_timeout=timeout_s,
            ssl=tls,
            ssl_context_factory=ssl.create_default_context if tls else None,
        )

    def _call(self, method: Any, *arguments: Any, **options: Any) -> Any:
        try:
            # A copy: tritonclient writes into it.
            return method(*arguments, headers=dict(self._headers), **options)
        except Failure:
            raise
        except Exception as e:  # geventhttpclient has exceptions of many families
            raise translated(e) from e

    def config(self, model: str) -> dict[str, Any]:
        return dict(self._call(self._client.get_model_config, model))

    def models(self) -> list[str]:
        index = self._call(self._client.get_model_repository_index)
        return [m["name"] for m in index if m.get("state") == "READY"]

    def infer(self, model: str, tensors: Tensors, output: str, count: int) -> None:
        result = self._call(
            self._client.infer, model, self._inputs(tensors), outputs=self._outputs(output)
        )
        _checked(result, output, count)
