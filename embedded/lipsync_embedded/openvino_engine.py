"""OpenVINO in ONNX Runtime's place on a CPU: the same network in less time, in f32 or in bf16."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from .accelerator import OpenVino
from .config_error import ConfigError
from .graph_steps import apply_steps
from .kept_items import in_parts
from .visual_split import FRAME, VisualSplit, split

Array = NDArray[Any]
Tensors = dict[str, Any]  # openvino.Tensor of each input and output, by name
_KINDS = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16}


class OpenVinoItems:
    """Runs the items of a batch side by side.

    Args:
        path: the ONNX graph, its first dimension the batch.
        inputs, outputs: names, in the order arrays are given and returned.
        streams: items under way at once, each on one core.
        settings: precision, and memory for the visual half.

    Attributes:
        description: what runs, in words.

    Raises:
        ConfigError: memory for a visual half, but the graph has none.
    """

    def __init__(
        self, path: Path, inputs: list[str], outputs: list[str], streams: int, settings: OpenVino
    ) -> None:
        self._inputs, self._streams = inputs, streams
        model = openvino.Core().read_model(str(path))
        shapes = {p.get_any_name(): [1, *list(p.partial_shape)[1:]] for p in model.inputs}
        model.reshape(shapes)
        apply_steps(model)
        ports = {port.get_any_name(): port for port in model.outputs}
        self._outputs = {
            name: (list(ports[name].shape)[1:], ports[name].get_element_type().to_dtype())
            for name in outputs
        }
        version = openvino.get_version().split("-")[0]
        self.description = f"OpenVINO {version}, {settings.precision}, {streams} x 1 threads"
        self._halves: _Halves | None = None
        if settings.visual_cache_mb:
            parts = split(model.clone(), _KINDS[settings.precision])
            if parts is None:
                raise ConfigError(
                    "visual_cache_mb: the graph has no part that depends on an avatar's frame alone"
                )
            self._halves = _Halves(parts, settings, streams)
            self.description += f", {self._halves.description}"
        if self._halves is None or not self._halves.all_kept:
            self._whole = _Requests(model, settings.precision, streams)

    def __call__(self, arrays: list[Array], sizes: list[int]) -> Iterator[list[Array]]:
        """Yield the outputs of each part of a batch, while the next one is computed.

        The calling thread starts and collects all items: with one Python thread a stream, about one
        start in ten hung for ever (2026.4).
        """
        batch = len(arrays[0])
        results = {n: np.empty((batch, *dims), t) for n, (dims, t) in self._outputs.items()}
        feeds = dict(zip(self._inputs, map(np.ascontiguousarray, arrays), strict=True))
        frames = [0] * batch if self._halves is None else self._halves.frames(feeds)
        items = (
            {k: _shared(a[n : n + 1]) for k, a in (*feeds.items(), *results.items())}
            for n in range(batch)
        )
        done = _side_by_side(map(self._item, items, frames), self._streams)
        for size, part in zip(sizes, in_parts(list(results.values()), sizes), strict=True):
            for _ in range(size):
                next(done)
            yield part

    def _item(self, tensors: Tensors, frame: int) -> Iterator[None]:
        if self._halves is not None and self._halves.hold(frame):
            return self._halves.run(tensors, frame)
        return self._whole.run(tensors)


class _Halves:
    """The rest of a network, beside what its visual half came to for as many frames as the budget holds.

    The order is a ping-pong over all frames, so a least-recently-used cache would always miss: the first
    frames stay. They are computed here, once, and the visual half then goes.
    """

    def __init__(self, parts: VisualSplit, settings: OpenVino, streams: int) -> None:
        self._position = parts.position  # not the parts: their weights go when they are compiled
        room = min(parts.frames, (settings.visual_cache_mb << 20) // parts.frame_bytes)
        self._kept = [
            {name: openvino.Tensor(parts.kind, shape) for name, shape in parts.kept.items()}
            for _ in range(room)
        ]
        visual = _Requests(parts.visual, "f32", streams)  # once: exact to the last rounding
        for _ in _side_by_side((visual.run(self._tensors(k)) for k in range(room)), streams):
            pass
        self._number = openvino.Core().compile_model(parts.number, "CPU")
        self._rest = _Requests(parts.rest, settings.precision, streams)
        self.all_kept = room == parts.frames
        self.description = (
            f"visual half of {room} of {parts.frames} frames kept,"
            f" {room * parts.frame_bytes / 2**20:.0f} MB"
        )

    def frames(self, feeds: dict[str, Array]) -> list[int]:
        """Frame of each item."""
        numbers = self._number([feeds[self._position]])[0]
        return [int(number) for number in numbers]

    def hold(self, frame: int) -> bool:
        return frame < len(self._kept)

    def run(self, tensors: Tensors, frame: int) -> Iterator[None]:
        """As _Requests.run; the tensors are the whole model's."""
        others = {name: t for name, t in tensors.items() if name != self._position}
        return self._rest.run(others | self._tensors(frame))

    def _tensors(self, frame: int) -> Tensors:
        return {FRAME: _shared(np.array([frame])), **self._kept[frame]}


class _Requests:
    """A compiled model of batch 1, and an inference request for each item under way."""

    def __init__(self, model: Any, precision: str, streams: int) -> None:
        compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,  # by itself it takes bf16 where the CPU has it
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
                "ENABLE_CPU_PINNING": False,  # other models and servers share these cores
            },
        )
        self._idle = [compiled.create_infer_request() for _ in range(streams)]

    def run(self, tensors: Tensors) -> Iterator[None]:
        """One inference: started at the first step, done at the second."""
        request = self._idle.pop()
        for name, tensor in tensors.items():
            request.set_tensor(name, tensor)
        request.start_async()
        try:
            yield
        finally:  # also where another item failed: no request is left running
            request.wait()
            self._idle.append(request)


def _shared(array: Array) -> Any:
    return openvino.Tensor(array, shared_memory=True)


def _side_by_side(runs: Iterable[Iterator[None]], streams: int) -> Iterator[None]:
    """Start runs in their order, with so many in flight at once; yield when the next one in order is done."""
    in_flight: deque[Iterator[None]] = deque()
    for run in runs:
        if full := len(in_flight) == streams:
            next(in_flight.popleft(), None)
        next(run)
        in_flight.append(run)
        if full:
            yield
    for run in in_flight:
        next(run, None)
        yield
