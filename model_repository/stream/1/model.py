"""Triton's `stream` model: request the avatar's ensemble chunk by chunk, and send the frames in order."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

import lipsync_stream as core
import numpy as np
import triton_python_backend_utils as pb_utils
from lipsync_telemetry import INTERNAL, Telemetry

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class _Refused(Exception):
    """The request cannot be served; the arguments are a TritonError and a reason."""


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self._numbers = {k: int(v["string_value"]) for k, v in parameters.items()}
        self._streams = 0
        self._telemetry = Telemetry(args["model_name"], core.REASONS)
        self._open = self._telemetry.number("lipsync_streams_open")
        self._open.set(0)

    async def execute(self, requests: list[Any]) -> None:
        await asyncio.gather(*(self._stream(request) for request in requests))

    async def _stream(self, request: Any) -> None:
        sender = request.get_response_sender()
        self._streams += 1
        self._open.set(self._streams)
        try:
            if self._streams > self._numbers["max_streams"]:
                error = _error("stream: too many streams at once; try again later", "UNAVAILABLE")
                raise _Refused(error, "full")
            await self._send_frames(request, sender)
            sender.send(flags=_FINAL)
        except core.StreamError as e:
            self._refuse(request, sender, _error(str(e), "INVALID_ARG"), e.reason)
        except _Refused as e:
            self._refuse(request, sender, *e.args)
        except (
            Exception
        ) as e:  # an exception that left execute() would leave the caller without a response
            error = _error(f"stream: {type(e).__name__}: {e}", "INTERNAL")
            self._refuse(request, sender, error, INTERNAL)
        finally:
            self._streams -= 1
            self._open.set(self._streams)

    def _refuse(self, request: Any, sender: Any, error: Any, reason: str) -> None:
        self._telemetry.refused(request, reason, error.message())
        # The final flag goes with the error: a caller may have Triton close the stream at the first error
        # (triton_grpc_error), and a later response would be sent to freed memory (2.51).
        sender.send(pb_utils.InferenceResponse(error=error), flags=_FINAL)

    async def _send_frames(self, request: Any, sender: Any) -> None:
        audio = pb_utils.get_input_tensor_by_name(request, "AUDIO").as_numpy()
        if audio.size == 0:
            raise core.StreamError(
                "AUDIO is empty: expected at least one sample of mono 16 kHz speech", "empty"
            )
        if not np.isfinite(audio).all():
            at = int(np.flatnonzero(~np.isfinite(audio))[0])
            raise core.StreamError(
                f"AUDIO must be finite, but sample {at} is NaN or infinite", "not_finite"
            )
        avatar = core.check_avatar(_text(request, "AVATAR", ""))
        output = core.check_output(_text(request, "OUTPUT", "H264"))
        offset = pb_utils.get_input_tensor_by_name(request, "LOOP_OFFSET")
        loop_index = np.zeros(1, np.int64) if offset is None else offset.as_numpy()
        parameters = core.check_parameters(json.loads(request.parameters() or "{}"))

        async def ask(piece: core.Slice) -> Any:
            numbers = {
                "AUDIO_START": piece.begin,
                "CLIP_SAMPLES": audio.size,
                "FRAME_START": piece.start,
                "FRAME_COUNT": piece.count,
            }
            inputs = [pb_utils.Tensor(k, np.array([v], np.int64)) for k, v in numbers.items()]
            inputs += [
                pb_utils.Tensor("AUDIO", np.ascontiguousarray(audio[piece.begin : piece.end])),
                pb_utils.Tensor("LOOP_OFFSET", loop_index),
            ]
            # Without trace=request.trace(): the trace of a decoupled request has ended by now, and
            # tritonserver 2.51.0 crashes on it (observed). So these requests are in no trace; their ids
            # name the request that they belong to.
            inner = pb_utils.InferenceRequest(
                model_name=avatar,
                requested_output_names=[output],
                inputs=inputs,
                parameters=parameters,
                request_id=f"{request.request_id()}/{piece.start}",
            )
            try:
                response = await inner.async_exec()
            except pb_utils.TritonModelException as e:
                raise _Refused(_error(f"avatar {avatar!r}: {e}", "INVALID_ARG"), "avatar") from e
            if response.has_error():
                raise _Refused(response.error(), "avatar")
            return pb_utils.get_output_tensor_by_name(response, output)

        pending: deque[tuple[int, asyncio.Task[Any]]] = deque()
        first, chunk = self._numbers["first_chunk"], self._numbers["chunk"]
        # Raw frames take megabytes each, and several chunks are in flight.
        pieces = core.slices(audio.size, first, first if output in core.RAW_OUTPUTS else chunk)
        try:
            while True:
                while len(pending) < self._numbers["in_flight"] and not sender.is_cancelled():
                    piece = next(pieces, None)
                    if piece is None:
                        break
                    pending.append((piece.start, asyncio.create_task(ask(piece))))
                if not pending:
                    return
                start, task = pending.popleft()
                frames = await task
                if sender.is_cancelled():
                    return
                where = pb_utils.Tensor("FRAME_START", np.array([start], np.int64))
                sender.send(pb_utils.InferenceResponse([where, frames]))
        finally:
            # An inner request cannot be cancelled, and its response must still be received.
            await asyncio.gather(*(task for _, task in pending), return_exceptions=True)


def _text(request: Any, name: str, default: str) -> str:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return default
    value = tensor.as_numpy()[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _error(message: str, code: str) -> Any:
    return pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
