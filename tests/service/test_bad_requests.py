"""Bad requests get INVALID_ARG and a sentence; the next good request is not harmed.

Wrong types, names and encoder options are in test_hostile_requests.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from lipsync_embedded import Server
from support.decoded_frames import assert_same_frames
from support.oracle import Oracle
from support.triton_calls import PROTOCOLS, Triton, processes, speech

WAVE = speech(2.0)  # 49 frames
BIG = 2**62


def with_sample(value: float) -> NDArray[Any]:
    wave = WAVE[:8000].copy()
    wave[4000] = value
    return wave


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"audio": WAVE[:0]}, "AUDIO is empty"),
    "nan": ({"audio": with_sample(np.nan)}, "sample 4000 of the clip is NaN or infinite"),
    "infinite": ({"audio": with_sample(np.inf)}, "sample 4000 of the clip is NaN or infinite"),
    "over the limit": ({"audio": WAVE}, "at most 32"),
    "count over the limit": ({"audio": WAVE, "count": 33}, "at most 32"),
    "count zero": ({"audio": WAVE, "count": 0}, "FRAME_COUNT must be at least 1, got 0"),
    "count huge": ({"audio": WAVE, "count": BIG}, "has 49"),
    "count huge, live": ({"audio": WAVE, "count": BIG, "clip": -1}, "at most 32"),
    "negative frame": (
        {"audio": WAVE, "first": -1, "count": 1},
        "FRAME_START must not be negative",
    ),
    "past the end": ({"audio": WAVE, "first": 49, "count": 1}, "has 49 "),
    "frame huge": ({"audio": WAVE, "first": BIG, "count": 1}, "has 49 "),
    "frame huge, live": ({"audio": WAVE, "first": BIG, "count": 1, "clip": -1}, "FRAME_START"),
    "negative start": ({"audio": WAVE, "start": -1, "count": 1}, "AUDIO_START must be between"),
    "start huge": ({"audio": WAVE, "start": BIG, "count": 1}, "AUDIO_START must be between"),
    "clip too short": ({"audio": WAVE, "clip": 31999, "count": 1}, "CLIP_SAMPLES must be -1"),
    "clip negative": ({"audio": WAVE, "clip": -2, "count": 1}, "CLIP_SAMPLES must be -1"),
    "clip huge": ({"audio": WAVE, "clip": BIG, "count": 1}, "CLIP_SAMPLES must be -1"),
    "loop_offset huge": (
        {"audio": WAVE, "count": 1, "loop_offset": BIG},
        "LOOP_OFFSET must be within",
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", CASES)
def test_refused_with_a_reason(server: Server, protocol: str, case: str) -> None:
    arguments, message = CASES[case]
    with pytest.raises(InferenceServerException) as refusal:
        Triton(server, protocol).frames("toy", **arguments)
    assert message in str(refusal.value)
    assert refusal.value.status() in ("StatusCode.INVALID_ARGUMENT", "400")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("side", ["before", "after"])
def test_one_sample_short(server: Server, protocol: str, side: str) -> None:
    """Frames 20 to 23 need windows 11 to 29, so columns 35 to 107: samples 6599 to 21799."""
    triton = Triton(server, protocol)
    begin, end = 6599, 21800
    good = triton.frames("toy", WAVE[begin:end], start=begin, clip=32000, first=20, count=4)
    assert len(good) == 4
    if side == "before":
        begin += 1
    else:
        end -= 1
    with pytest.raises(InferenceServerException, match=r"need samples 6599\.\.21799"):
        triton.frames("toy", WAVE[begin:end], start=begin, clip=32000, first=20, count=4)


def test_afterwards_the_server_is_as_it_was(server: Server, oracles: dict[str, Oracle]) -> None:
    """The same processes, and a good request among bad ones still gets its frames."""
    before = processes(server)
    triton = Triton(server, "grpc")
    wave = speech(0.5)
    expected = oracles["toy"].render(wave)
    for arguments, _ in CASES.values():
        with pytest.raises(InferenceServerException):
            triton.frames("toy", **arguments)
        assert_same_frames(triton.frames("toy", wave), expected)
    assert processes(server) == before
