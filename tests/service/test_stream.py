"""`stream`: a whole clip in one call, chunks out in order."""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from lipsync_embedded import Server
from support.triton_calls import Triton, frames_made, infer_inputs, processes, speech


class Stream:
    """One call of `stream` on a connection of its own."""

    def __init__(
        self, server: Server, audio: NDArray[Any], parameters: Any = None, **tensors: Any
    ) -> None:
        self._client = triton_grpc.InferenceServerClient(server.grpc_url.split("//")[1])
        self._answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self._client.start_stream(lambda result, error: self._answers.put((result, error)))
        arrays = {"AUDIO": audio} | {
            name: np.array([value], object if isinstance(value, str) else np.int64)
            for name, value in tensors.items()
        }
        inputs = infer_inputs(triton_grpc, arrays)
        self._output = tensors.get("OUTPUT", "H264")
        self._client.async_stream_infer(
            "stream", inputs, enable_empty_final_response=True, parameters=parameters
        )

    def __iter__(self) -> Generator[tuple[int, NDArray[Any]], None, None]:
        """The chunks; who leaves before the end cancels the call."""
        ended = False
        try:
            while True:
                result, error = self._answers.get(timeout=120)
                ended = error is not None or not result.get_response().outputs
                if error is not None:
                    raise error
                if ended:
                    return
                start = int(result.as_numpy("FRAME_START")[0])
                yield start, result.as_numpy(self._output)
        finally:
            # One left open, or cancelled after its end, would hold the server up when it stops (2.51).
            self._client.stop_stream(cancel_requests=not ended)
            self._client.close()


@pytest.mark.parametrize(
    ("seconds", "output"), [(0.05, "FRAMES"), (1.0, "FRAMES"), (1.0, "I420"), (3.3, "FRAMES")]
)
def test_frames_are_those_of_slices(server: Server, seconds: float, output: str) -> None:
    wave, triton = speech(seconds), Triton(server, "grpc")
    at = 0
    for start, frames in Stream(server, wave, AVATAR="toy", OUTPUT=output, LOOP_OFFSET=7):
        assert start == at
        expected = triton.frames(
            "toy", wave, output, clip=len(wave), first=start, count=len(frames), loop_offset=7
        )
        assert np.array_equal(frames, expected)
        at += len(frames)
    columns = 1 + max(len(wave), 3000) // 200
    assert at == int((columns - 16) / 80 * 25) + 4


@pytest.mark.parametrize("output", ["JPEG", "H264"])
def test_encoded_outputs_and_their_options(server: Server, output: str) -> None:
    def size(parameters: Any) -> int:
        stream = Stream(server, speech(0.5), parameters, AVATAR="toy", OUTPUT=output)
        return sum(len(unit) for _, units in stream for unit in units[:, 0])

    assert size({"crf": 45, "jpeg_quality": 10}) < 0.7 * size({"crf": 10, "jpeg_quality": 95})


def test_the_first_frames_do_not_wait_for_the_rest(server: Server) -> None:
    stream = iter(Stream(server, speech(10.0), AVATAR="toy"))
    before = frames_made(server, "toy_generator")
    start, units = next(stream)
    made = frames_made(server, "toy_generator") - before
    assert (start, len(units)) == (0, 8)
    assert made < 120, "the whole clip was made before its first chunk came"
    assert sum(len(units) for _, units in stream) > 200


def test_cancelling_stops_the_work(server: Server) -> None:
    chunks = iter(Stream(server, speech(120.0), AVATAR="toy"))
    next(chunks)
    chunks.close()
    time.sleep(0.5)  # the chunks under way come to their end
    before = frames_made(server, "toy_generator")
    time.sleep(1.0)
    assert frames_made(server, "toy_generator") - before <= 3 * 16


@pytest.mark.parametrize(
    ("tensors", "parameters", "message"),
    [
        ({"AVATAR": "nobody"}, None, "'nobody' is not ready"),
        ({"AVATAR": "../../etc"}, None, "AVATAR must be the name of an avatar"),
        ({"AVATAR": "stream"}, None, "AVATAR must be the name of an avatar"),
        ({"AVATAR": "mel"}, None, "unexpected inference output 'H264'"),
        (
            {"AVATAR": "toy", "OUTPUT": "MP3"},
            None,
            "OUTPUT must be one of FRAMES, I420, JPEG, H264",
        ),
        ({"AVATAR": "toy", "LOOP_OFFSET": 2**60}, None, "LOOP_OFFSET must be within"),
        ({"AVATAR": "toy"}, {"crf": 99}, "crf must be an integer from 0 to 51, got 99"),
        ({"AVATAR": "toy"}, {"crf": 20.5}, r"crf must be an integer, a string or a .*, got 20\.5"),
    ],
)
def test_a_bad_request_ends_with_its_reason(
    server: Server, tensors: Any, parameters: Any, message: str
) -> None:
    for _ in range(3):
        with pytest.raises(InferenceServerException, match=message):
            list(Stream(server, speech(1.0), parameters, **tensors))
    assert list(Stream(server, speech(0.1), AVATAR="toy"))


def test_an_unusable_clip_ends_with_its_reason(server: Server) -> None:
    wave = speech(2.0)
    wave[20_000] = np.nan
    with pytest.raises(InferenceServerException, match="sample 20000 is NaN or infinite"):
        list(Stream(server, wave, AVATAR="toy"))
    with pytest.raises(InferenceServerException, match="AUDIO is empty"):
        list(Stream(server, wave[:0], AVATAR="toy"))


def test_streams_side_by_side_get_their_own_frames(server: Server) -> None:
    def run(seed: int) -> list[bytes]:
        stream = Stream(server, speech(1.0, seed), AVATAR="toy", OUTPUT="JPEG")
        return [unit for _, units in stream for unit in units[:, 0]]

    alone = [run(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(8))) == alone
    assert len({tuple(frames) for frames in alone}) == 8


@pytest.mark.server
def test_more_streams_than_the_limit_are_refused(toy_repository: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_repository, tmp_path / "models", symlinks=True)
    config = tmp_path / "models/stream/config.pbtxt"
    text = config.read_text()
    assert 'string_value: "64"' in text
    config.write_text(text.replace('string_value: "64"', 'string_value: "2"'))
    with Server(tmp_path / "models", models=["toy", "stream"]) as own:
        running = [iter(Stream(own, speech(8.0), AVATAR="toy")) for _ in range(2)]
        for stream in running:
            next(stream)
        with pytest.raises(InferenceServerException, match="too many streams at once"):
            list(Stream(own, speech(0.1), AVATAR="toy"))
        for stream in running:
            assert sum(len(units) for _, units in stream) > 190
        before = processes(own)
        assert list(Stream(own, speech(0.1), AVATAR="toy"))
        assert processes(own) == before
