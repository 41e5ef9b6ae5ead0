"""One gRPC call with many answers: Triton's decoupled models, over tritonclient's asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from tritonclient.utils import InferenceServerException


class Streaming:
    """A call under way.

    Args:
        client: tritonclient's asyncio gRPC client.
        request: what its `stream_infer` takes for one request.
        headers: of the call.
    """

    def __init__(self, client: Any, request: dict[str, Any], headers: dict[str, str]) -> None:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield request

        self._call = client.stream_infer(requests(), headers=headers)
        self._answered = False

    async def next(self) -> Any:
        """The next answer (an InferResult), or None after the last; cancelling it ends the call.

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
            # Not ours: grpc.aio gives up a call by itself whose request tritonclient cannot write.
            raise InferenceServerException("the request could not be written") from e
        except grpc.RpcError as e:
            raise InferenceServerException(e.details() or str(e.code()), str(e.code())) from e
        if error is not None:
            raise self._with_status(error)
        self._answered = True
        return result

    def _with_status(self, error: InferenceServerException) -> InferenceServerException:
        """An error within a stream is a sentence alone: what is wrong with a request shows at its beginning.

        Not asked for is `triton_grpc_error`, which makes it a gRPC status: it ends tritonserver 2.51 with a
        segmentation fault when the model says afterwards that the request is done.
        """
        status = "INTERNAL" if self._answered else "INVALID_ARGUMENT"
        return InferenceServerException(error.message(), status)

    def cancel(self) -> None:
        """Tell the server that nobody waits any more; nothing happens to a call that is over."""
        self._call.cancel()
