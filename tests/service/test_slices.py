"""However a clip is cut, asked for and ordered, its numbers are the same to the last bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lipsync_embedded import Server
from support import oracle
from support.decoded_frames import assert_same_frames
from support.oracle import Oracle
from support.triton_calls import PROTOCOLS, Triton, request_of, speech

WAVE = speech(3.0, seed=5)  # 48,000 samples, T = 241, F = 72
FRAMES = 74


def needed(samples: int, first: int, count: int) -> tuple[int, int]:
    """Samples [begin, end) that frames depend on, step by step from the contract."""
    columns = 1 + max(samples, 3000) // 200
    windows = oracle.window_count(columns)
    wanted: set[int] = set()
    for i in range(first, first + count):
        for entry in range(i - 8, i + 8):
            if 0 <= entry < windows + 2:
                window = min(max(entry - 1, 0), windows - 1)
                start = min(int(80 * window / 25), columns - 16)
                wanted.update(range(start, start + 16))
    # A column is 400 samples to both sides of its centre, and pre-emphasis needs one before.
    return max(0, 200 * min(wanted) - 401), min(samples, 200 * max(wanted) + 400)


def cut(
    wave: NDArray[Any], first: int, count: int, chance: random.Random | None = None
) -> dict[str, Any]:
    """A request for a slice, no longer than needed, or by a chance longer."""
    begin, end = needed(len(wave), first, count)
    if chance is not None:
        begin = max(0, begin - chance.choice([0, 1, 199, 200, 3001]))
        end = min(len(wave), end + chance.choice([0, 1, 199, 200, 3001]))
    return request_of(wave, begin, end, first, count)


def test_mel_windows_of_slices(server: Server, oracles: dict[str, Oracle]) -> None:
    triton = Triton(server, "grpc")
    whole = oracles["toy"].windows(WAVE)
    entries = [whole[0], *whole, whole[-1]]
    chance = random.Random(1)
    pieces: dict[int, NDArray[Any]] = {}
    for _ in range(60):
        count = chance.randint(1, 32)
        first = chance.randint(0, FRAMES - count)
        asked = cut(WAVE, first, count, chance)
        answer = triton.infer("mel", triton.tensors(**asked), ["WINDOWS", "INDEX", "LOOP_INDEX"])
        assert answer["LOOP_INDEX"][:, 0].tolist() == list(range(first, first + count))
        for frame, rows in zip(range(first, first + count), answer["INDEX"], strict=True):
            for entry, row in zip(range(frame - 8, frame + 8), rows, strict=True):
                if not 0 <= entry < len(entries):
                    assert row == -1
                    continue
                window = answer["WINDOWS"][row, 0]
                assert np.abs(window - entries[entry]).max() <= 1e-5
                assert np.array_equal(pieces.setdefault(entry, window), window)
    assert set(pieces) == set(range(FRAMES))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_frames_do_not_depend_on_the_chunks(
    server: Server, oracles: dict[str, Oracle], protocol: str
) -> None:
    triton = Triton(server, protocol)
    expected = oracles["toy"].render(WAVE)
    chance = random.Random(2)
    first_answer: NDArray[Any] | None = None
    for chunk in (32, 16, 7, 1):
        starts = list(range(0, FRAMES, chunk))
        chance.shuffle(starts)
        parts = {}
        for first in starts:
            asked = cut(WAVE, first, min(chunk, FRAMES - first), chance)
            parts[first] = triton.frames("toy", **asked)
        frames = np.concatenate([parts[first] for first in sorted(parts)])
        if first_answer is None:
            assert_same_frames(frames, expected)
            first_answer = frames
        assert np.array_equal(frames, first_answer)


@pytest.mark.parametrize(
    "samples", [1, 2999, 3000, 3199, 3200, 3799, 3800, 4599, 76_600, 76_799, 76_800]
)
def test_the_last_frame_of_clips_at_the_edges_of_the_arithmetic(
    server: Server, oracles: dict[str, Oracle], samples: int
) -> None:
    triton = Triton(server, "grpc")
    wave = speech(5.0, seed=7)[:samples]
    audio = oracles["toy"].audio(wave)
    last = len(audio) - 1
    frames = triton.frames("toy", **cut(wave, last, 1))
    assert_same_frames(frames, [oracles["toy"].frame(last, audio[last])])
    with pytest.raises(Exception, match=f"has {last + 1} "):
        triton.frames(
            "toy", wave[-20_000:], start=max(0, samples - 20_000), first=last + 1, count=1
        )


def test_left_out_numbers_have_the_documented_defaults(server: Server) -> None:
    triton = Triton(server, "grpc")
    wave = speech(0.5)
    plain = triton.frames("toy", wave)
    every = triton.frames("toy", wave, start=0, clip=8000, first=0, count=len(plain), loop_offset=0)
    assert np.array_equal(plain, every)
    assert np.array_equal(triton.frames("toy", wave, first=3), plain[3:])
    assert np.array_equal(triton.frames("toy", wave, count=3), plain[:3])
    # AUDIO_START alone: the clip ends where the slice does. Frame 10 begins with window 1, column 3.
    tail = triton.frames("toy", wave[199:], start=199, first=10)
    assert np.array_equal(tail, plain[10:])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("loop_index", [-1, -2, -1_000_003, 17, 2**53 - 40, -(2**53)])
def test_pose_offset(
    server: Server, oracles: dict[str, Oracle], protocol: str, loop_index: int
) -> None:
    """The motion goes on from any place, the far and the negative ones too."""
    wave = speech(0.3)
    frames = Triton(server, protocol).frames("toy", wave, loop_offset=loop_index)
    assert_same_frames(frames, oracles["toy"].render(wave, loop_offset=loop_index))


def test_a_clip_as_it_is_recorded(server: Server, oracles: dict[str, Oracle]) -> None:
    """Blocks of 0.1 s come in; what is complete is rendered, and the rest when the end is known."""
    triton = Triton(server, "grpc")
    wave = speech(1.5, seed=4)
    expected = oracles["toy"].render(wave)
    frames: list[NDArray[Any]] = []

    def ask(end: int, clip: int) -> NDArray[Any]:
        at = len(frames)
        begin = max(0, 200 * int(3.2 * max(0, at - 9)) - 401)
        return triton.frames("toy", wave[begin:end], start=begin, clip=clip, first=at)

    for end in range(8000, len(wave), 1600):
        # Frame i ends with window i + 6, sixteen columns from int(3.2 (i + 6)), each 400 samples wide.
        done = sum(200 * (int(3.2 * (i + 6)) + 15) + 400 <= end for i in range(100))
        if done > len(frames):
            new = ask(end, clip=-1)
            assert len(new) == done - len(frames)
            frames.extend(new)
    assert len(frames) > 20
    frames.extend(ask(len(wave), clip=len(wave)))
    assert_same_frames(np.stack(frames), expected)


def test_live_frames_come_as_soon_as_they_can(server: Server) -> None:
    triton = Triton(server, "grpc")
    wave = speech(1.0)
    counts = set()
    for end in range(7000, 12_000, 50):
        complete = sum(200 * (int(3.2 * (i + 6)) + 15) + 400 <= end for i in range(100))
        counts.add(complete)
        tensors = triton.tensors(wave[:end], clip=-1)
        if complete:
            assert len(triton.infer("mel", tensors, ["LOOP_INDEX"])["LOOP_INDEX"]) == complete
        else:
            with pytest.raises(Exception, match="send more audio"):
                triton.infer("mel", tensors, ["LOOP_INDEX"])
    assert counts == set(range(9))
