"""Many callers at once: each gets its own frames, and the generator's batcher merges their requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from lipsync_embedded import Server
from support.decoded_frames import assert_same_frames
from support.oracle import Oracle
from support.triton_calls import Triton, assert_counted, speech

CALLERS = 16


def test_sixteen_callers(server: Server, oracles: dict[str, Oracle]) -> None:
    waves = [speech(0.4, seed) for seed in range(CALLERS)]
    loop_indices = [3 * n for n in range(CALLERS)]

    def call(n: int) -> NDArray[Any]:
        return Triton(server, "grpc").frames("toy", waves[n], loop_offset=loop_indices[n])

    before = batches(server)
    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(call, range(CALLERS)))
    for n, frames in enumerate(answers):
        assert_same_frames(frames, oracles["toy"].render(waves[n], loop_offset=loop_indices[n]))
    executions, merged = (now - then for now, then in zip(batches(server), before, strict=True))
    assert executions < CALLERS
    assert merged > 0


def batches(server: Server) -> tuple[int, int]:
    """Executions of the generator, and those of more frames than one request had."""
    statistics = Triton(server, "grpc").client.get_inference_statistics(
        "toy_generator", as_json=True
    )
    model = statistics["model_stats"][0]
    one_request = 9  # frames of 0.4 s
    sizes = {
        int(b["batch_size"]): int(b["compute_infer"]["count"]) for b in model.get("batch_stats", [])
    }
    return int(model.get("execution_count", 0)), sum(
        n for size, n in sizes.items() if size > one_request
    )


def test_only_the_output_asked_for_is_computed(server: Server) -> None:
    triton = Triton(server, "grpc")

    def composed() -> int:
        statistics = triton.client.get_inference_statistics("toy_compositor", as_json=True)
        return int(statistics["model_stats"][0].get("execution_count", 0))

    before = composed()
    triton.frames("toy", speech(0.2), "JPEG")
    assert_counted(composed, before + 1)
    triton.infer("toy", {"AUDIO": speech(0.2)}, ["JPEG", "H264"])
    assert_counted(composed, before + 3)
