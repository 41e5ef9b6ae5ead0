"""Triton's compositor of one avatar: patches in, full frames out, in the requested outputs."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import lipsync_encode as encode
import numpy as np
import triton_python_backend_utils as pb_utils
from lipsync_frames import AvatarFrames, Paste
from lipsync_telemetry import INTERNAL, Telemetry

OUTPUTS = ("FRAMES", "I420", "JPEG", "H264")
_MOST_THREADS = 4  # that encode JPEG at once; the networks want the cores too
Item = tuple[int, Any, float]  # the avatar's frame, the patch, and the share of the original pixels


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        cv2.setNumThreads(1)  # parallelism comes from frames, instances and requests
        self._threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(self._threads)
        parameters = json.loads(args["model_config"])["parameters"]
        self._count_for(args["model_name"])
        cache_mb = int(parameters["frame_cache_mb"]["string_value"])
        pack = Path(__file__).with_name("frames.npz")
        self._paste = Paste.from_parameters(parameters)
        self._avatar = AvatarFrames(pack, cache_mb * 2**20, self._paste)
        self._avatar.preload()

    def execute(self, requests: list[Any]) -> list[Any]:
        return [
            cancelled() if request.is_cancelled() else self._respond(request)
            for request in requests
        ]

    def _respond(self, request: Any) -> Any:
        began, self._pasting = time.perf_counter(), 0.0
        try:
            outputs, count = self._outputs(request)
        except encode.OptionError as e:
            self._telemetry.refused(request, "option", str(e))
            error = pb_utils.TritonError(str(e), pb_utils.TritonError.INVALID_ARG)
        except Exception as e:  # one that left execute() would leak shared memory (server#7481)
            message = f"compositor: {type(e).__name__}: {e}"
            self._telemetry.refused(request, INTERNAL, message)
            error = pb_utils.TritonError(message)
        else:
            for tensor in outputs:
                self._made[tensor.name()].add(count)
            self._seconds["paste"].add(self._pasting)
            self._seconds["encode"].add(time.perf_counter() - began - self._pasting)
            return pb_utils.InferenceResponse(outputs)
        return pb_utils.InferenceResponse(error=error)

    def _count_for(self, model: str) -> None:
        """Create the numbers of this avatar on the metrics page."""
        self._telemetry = Telemetry(model, ("option",))
        avatar = model.removesuffix("_compositor")
        self._made = {
            output: self._telemetry.number("lipsync_frames_total", avatar=avatar, output=output)
            for output in OUTPUTS
        }
        self._seconds = {
            stage: self._telemetry.number("lipsync_stage_seconds_total", model=model, stage=stage)
            for stage in ("paste", "encode")
        }

    def _outputs(self, request: Any) -> tuple[list[Any], int]:
        """Return the requested tensors, and the number of frames in each."""
        options = encode.Options.parse(json.loads(request.parameters() or "{}"))
        patches = pb_utils.get_input_tensor_by_name(request, "PATCH").as_numpy()
        loop_indices = (
            pb_utils.get_input_tensor_by_name(request, "LOOP_INDEX").as_numpy()[:, 0].tolist()
        )
        if len(loop_indices) != len(patches):
            raise encode.OptionError(
                f"expected one LOOP_INDEX per PATCH, got {len(loop_indices)} and {len(patches)}"
            )
        avatar = self._avatar
        shares = self._own_shares(request, len(patches))
        frames = [avatar.at(loop_index) for loop_index in loop_indices]
        work = list(zip(frames, patches, shares, strict=True))
        wanted = request.requested_output_names()
        outputs = []
        for name, shape, compose in (
            ("FRAMES", avatar.bgr_shape, avatar.compose_bgr),
            ("I420", avatar.i420_shape, avatar.compose_i420),
        ):
            if name in wanted:
                encode.check_raw_size(name, len(work), shape)
                images = np.empty((len(work), *shape), np.uint8)
                for image, item in zip(images, work, strict=True):
                    self._compose(compose, item, image)
                outputs.append(pb_utils.Tensor(name, images))
        if "JPEG" in wanted:
            outputs.append(_bytes_tensor("JPEG", self._jpegs(work, options.jpeg_quality)))
        if "H264" in wanted:
            outputs.append(_bytes_tensor("H264", encode.h264(self._i420(work), options)))
        return outputs, len(work)

    def _own_shares(self, request: Any, count: int) -> list[float]:
        """Return the share of the avatar's own frame in each frame: all 0 without a silence gate."""
        level = pb_utils.get_input_tensor_by_name(request, "LEVEL")
        if level is None or self._paste.silence_db is None:
            return [0.0] * count
        levels = level.as_numpy()
        if len(levels) != count:
            raise encode.OptionError(f"expected one LEVEL per PATCH, got {len(levels)} and {count}")
        return list(self._paste.own_share(levels).tolist())

    def _jpegs(self, work: list[Item], quality: int) -> list[bytes]:
        """Return each frame as JPEG; as many as there are threads are encoded at once."""
        units: list[bytes] = []
        encoding: deque[tuple[Future[bytes], Any]] = deque()
        for item in work:
            if len(encoding) < self._threads:
                frame = np.empty(self._avatar.bgr_shape, np.uint8)
            else:
                done, frame = encoding.popleft()
                units.append(done.result())
            self._compose(self._avatar.compose_bgr, item, frame)
            encoding.append((self._pool.submit(encode.jpeg, frame, quality), frame))
        return units + [done.result() for done, _ in encoding]

    def _i420(self, work: list[Item]) -> Iterator[Any]:
        """Yield each frame as I420 in one buffer, which the next frame overwrites."""
        frame = np.empty(self._avatar.i420_shape, np.uint8)
        for item in work:
            self._compose(self._avatar.compose_i420, item, frame)
            yield frame

    def _compose(self, compose: Callable[..., None], item: Item, out: Any) -> None:
        k, patch, own = item
        began = time.perf_counter()
        compose(k, patch, out, own)
        self._pasting += time.perf_counter() - began


def _bytes_tensor(name: str, units: list[bytes]) -> Any:
    column = np.empty((len(units), 1), object)
    column[:, 0] = units
    return pb_utils.Tensor(name, column)


def cancelled() -> Any:
    """Return the response to a request whose caller has gone: nobody needs its outputs."""
    error = pb_utils.TritonError("the request was cancelled", pb_utils.TritonError.CANCELLED)
    return pb_utils.InferenceResponse(error=error)
