"""One gRPC call with many responses: Triton's decoupled models, over tritonclient's asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException


class StreamCall:
    """A streaming call in flight.

    Args:
        client: tritonclient's asyncio gRPC client.
        arguments: those of its `stream_infer` for one request.
        headers: of the call.
    """

    def __init__(
        self,
        client: triton_aio.InferenceServerClient,
        arguments: dict[str, Any],
        headers: dict[str, str],
    ) -> None:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield arguments

        self._call = client.stream_infer(requests(), headers=headers)
        self._responded = False

    async def next(self) -> triton.InferResult | None:
        """Return the next response, or None after the last; cancelling this ends the call.

        Raises:
            InferenceServerException: the call failed, with its status.
        """
        task = asyncio.ensure_future(self._call.__anext__())
        try:
            await asyncio.wait({task})
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        try:
            result, error = task.result()
        except StopAsyncIteration:
            return None
        except asyncio.CancelledError as e:
            # Not the caller's: grpc.aio cancels a call by itself whose request tritonclient cannot write.
            raise InferenceServerException("the request could not be written") from e
        except grpc.RpcError as e:
            raise InferenceServerException(e.details() or str(e.code()), str(e.code())) from e
        if error is not None:
            raise self._with_status(error)
        self._responded = True
        return result

    def _with_status(self, error: InferenceServerException) -> InferenceServerException:
        """Add a status to an error within a stream, which has none: a bad request shows at the beginning.

        The header `triton_grpc_error`, which makes Triton send a status, ends tritonserver 2.51 with a
        segmentation fault when the model reports afterwards that the request is done.
        """
        status = "INTERNAL" if self._responded else "INVALID_ARGUMENT"
        return InferenceServerException(error.message(), status)

    def cancel(self) -> None:
        """Tell the server that nobody waits for the call any more; a call that is over is left alone."""
        self._call.cancel()
