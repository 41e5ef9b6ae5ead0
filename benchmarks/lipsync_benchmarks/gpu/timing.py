"""Time and accuracy of one session, as rows of figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .network import Feeds

COMPARED = 4  # frames on which the precisions are compared
Figures = dict[str, Any]  # as written to the JSON file


def caller(
    session: onnxruntime.InferenceSession, feeds: Feeds, feed: str, device: str
) -> Callable[[int], object]:
    """Return a call with the first frames of the pool; its argument is their number."""
    outputs = [o.name for o in session.get_outputs()]
    if feed == "arrays":
        return lambda n: session.run(outputs, {name: a[:n] for name, a in feeds.items()})
    bindings: dict[int, onnxruntime.IOBinding] = {}

    def call(n: int) -> None:
        if n not in bindings:  # in the warm-up
            binding = bindings[n] = session.io_binding()
            for name, array in feeds.items():
                value = onnxruntime.OrtValue.ortvalue_from_numpy(array[:n], device, 0)
                binding.bind_ortvalue_input(name, value)
            for name in outputs:
                binding.bind_output(name, device, 0)
        session.run_with_iobinding(bindings[n])
        bindings[n].synchronize_outputs()

    return call


def measure_calls(call: Callable[[int], object], frames: int, batch: int) -> Figures:
    """Time a clip's frames in calls of a batch, the last of which has the frames that remain.

    Returns:
        milliseconds per frame, and frames per second.
    """
    sizes = [min(batch, frames - n) for n in range(0, frames, batch)]
    for size in sorted(
        set(sizes)
    ):  # the first runs of a shape choose algorithms and allocate memory
        call(size)
        call(size)
    seconds = []
    for size in sizes:
        begun = time.perf_counter()
        call(size)
        seconds.append(time.perf_counter() - begun)
    ms = np.array(seconds) / np.array(sizes) * 1000
    return {
        "frames": frames,
        "calls": len(sizes),
        "median_ms": round(float(np.median(ms)), 4),
        "p95_ms": round(float(np.percentile(ms, 95)), 4),
        "fps": round(frames / sum(seconds), 2),
    }


def measure_rows(
    session: onnxruntime.InferenceSession,
    feeds: Feeds,
    precision: str,
    device: str,
    frames: int,
    batches: Sequence[int],
) -> Iterator[Figures]:
    """Yield a row for each batch and feed; a row that failed (out of memory, say) has an `error`."""
    for batch in batches:
        for feed in ("arrays", "device"):
            row: Figures = {"precision": precision, "batch": batch, "feed": feed}
            try:
                row |= measure_calls(caller(session, feeds, feed, device), frames, batch)
            except Exception as e:
                row["error"] = f"{type(e).__name__}: {e}"[:500]
            yield row


def first_outputs(session: onnxruntime.InferenceSession, feeds: Feeds) -> NDArray[Any]:
    """Return the session's output for the first COMPARED frames."""
    outputs: NDArray[Any] = session.run(None, {n: a[:COMPARED] for n, a in feeds.items()})[0]
    return outputs


def psnr_db(actual: NDArray[Any], expected: NDArray[Any]) -> float | None:
    """Return the peak signal-to-noise ratio (peak 255 for uint8, 1 for floats); None for equal arrays."""
    peak = 255.0 if expected.dtype == np.uint8 else 1.0
    error = float(np.mean((actual.astype(np.float64) - expected.astype(np.float64)) ** 2))
    return round(10 * np.log10(peak**2 / error), 2) if error else None


def bytes_per_frame(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """Return the bytes that `arrays` move for a frame, from the tensors' shapes and types."""
    size = {"tensor(float)": 4, "tensor(int64)": 8, "tensor(uint8)": 1}

    def total(ports: list[onnxruntime.NodeArg]) -> int:
        return sum(int(np.prod(port.shape[1:])) * size[port.type] for port in ports)

    return {"in": total(session.get_inputs()), "out": total(session.get_outputs())}
