"""Raw tritonclient calls over both protocols, so that the service is tested without our own client."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import np_to_triton_dtype

from lipsync_embedded import Server

PROTOCOLS = ("grpc", "http")
NUMBERS = {
    "start": "AUDIO_START",
    "clip": "CLIP_SAMPLES",
    "first": "FRAME_START",
    "count": "FRAME_COUNT",
    "loop_offset": "LOOP_OFFSET",
}


class Triton:
    """One connection."""

    def __init__(self, server: Server, protocol: str) -> None:
        self.module: Any = tritonclient.grpc if protocol == "grpc" else tritonclient.http
        url = server.grpc_url if protocol == "grpc" else server.http_url
        self.client = self.module.InferenceServerClient(url.split("//")[1])

    def infer(
        self,
        model: str,
        tensors: Mapping[str, NDArray[Any]],
        outputs: list[str],
        parameters: dict[str, Any] | None = None,
    ) -> dict[str, NDArray[Any]]:
        inputs = infer_inputs(self.module, tensors)
        wanted = [self.module.InferRequestedOutput(name) for name in outputs]
        result = self.client.infer(model, inputs, outputs=wanted, parameters=parameters)
        return {name: result.as_numpy(name) for name in outputs}

    def frames(
        self,
        avatar: str,
        audio: NDArray[Any],
        output: str = "FRAMES",
        parameters: dict[str, Any] | None = None,
        loop_offset: int | None = None,
        **numbers: int,
    ) -> NDArray[Any]:
        if loop_offset is not None:
            numbers["loop_offset"] = loop_offset
        return self.infer(avatar, self.tensors(audio, **numbers), [output], parameters)[output]

    @staticmethod
    def tensors(audio: NDArray[Any], **numbers: int) -> dict[str, NDArray[Any]]:
        """A request's inputs; numbers by their short names."""
        return {"AUDIO": audio} | {NUMBERS[k]: np.array([v], np.int64) for k, v in numbers.items()}


def infer_inputs(module: Any, tensors: Mapping[str, NDArray[Any]]) -> list[Any]:
    """Return the inputs of a request, of `tritonclient.grpc` or `tritonclient.http`."""
    inputs = []
    for name, array in tensors.items():
        inputs.append(module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def frames_made(server: Server, model: str) -> int:
    """Return the number of frames that a model has processed, by Triton's own count."""
    answer = Triton(server, "http").client.get_inference_statistics(model)
    return int(answer["model_stats"][0]["inference_count"])


def assert_counted(count: Callable[[], int], expected: int, beyond: int = 0) -> None:
    """A counter of Triton's reaches a number: it counts a request after it has answered it."""
    deadline = time.monotonic() + 20
    while (now := count()) < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert expected <= now <= expected + beyond


def processes(server: Server) -> set[int]:
    """Living processes of a server; a stub that died stays with its parent as a zombie."""
    children = psutil.Process(server.pid).children(recursive=True)
    return {child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE}


def shared_memory(pids: Iterable[int]) -> set[Path]:
    """Segments of the server that these processes belong to; other servers have theirs beside them."""
    lines = " ".join(" ".join(psutil.Process(pid).cmdline()) for pid in pids)
    (prefix,) = set(re.findall(r"shm-region-prefix-name=(lipsync_\w+)", lines))
    return set(Path("/dev/shm").glob(prefix + "*"))


def slice_request(wave: NDArray[Any], first: int, count: int) -> dict[str, Any]:
    """A generous slice of a clip around the wanted frames, written from the contract alone.

    Frame i reaches embeddings i-8 … i+7 of 0.2 s each, one every 0.04 s.
    """
    begin = max(0, 640 * (first - 10) - 2000)
    end = min(len(wave), 640 * (first + count + 8) + 6000)
    # The last windows lie at the clip's end, wherever their own place would be.
    begin = min(begin, max(0, len(wave) - 4000))
    return request_of(wave, begin, end, first, count)


def request_of(wave: NDArray[Any], begin: int, end: int, first: int, count: int) -> dict[str, Any]:
    """Return the arguments of `Triton.frames` for samples [begin, end) of a clip."""
    return {
        "audio": wave[begin:end],
        "start": begin,
        "clip": len(wave),
        "first": first,
        "count": count,
    }


def speech(seconds: float, seed: int = 0) -> NDArray[Any]:
    """Something like speech: voiced bursts, hiss and pauses, float32 at 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16000)) / 16000
    pitch = 110 + 40 * np.sin(2 * np.pi * (0.4 + 0.1 * seed) * t + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    voiced = sum(np.sin(h * phase) / h for h in range(1, 12))
    envelope = np.clip(np.sin(2 * np.pi * (2.3 + 0.2 * seed) * t), 0, 1)
    samples = 0.2 * envelope * voiced + 0.01 * rng.standard_normal(len(t))
    return np.asarray(samples, np.float32)
