"""The client's arithmetic of frames and samples, compared with the server's and the oracle's."""

from __future__ import annotations

import lipsync_mel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsync_client import protocol
from support import oracle

clips = st.integers(1, 400_000)


@given(clips)
def test_frame_count_is_the_oracles(samples: int) -> None:
    columns = 1 + max(samples, 3000) // 200
    assert protocol.frame_count(samples) == oracle.window_count(columns) + 2
    assert protocol.frame_count(samples) == lipsync_mel.clip_windows(samples) + 2


@given(clips, st.data())
def test_a_slice_is_what_the_server_needs_and_no_more(samples: int, data: st.DataObject) -> None:
    total = protocol.frame_count(samples)
    first = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(1, min(32, total - first)))
    begin, end = protocol.sample_range(samples, first, count)
    plan = lipsync_mel.lay_out(end - begin, begin, samples, first, count, max_frames=32)
    assert plan.sample_range == (begin, end)


@given(st.integers(0, 10_000), st.integers(1, 32))
def test_a_live_slice_is_what_the_server_needs_and_no_more(first: int, count: int) -> None:
    begin, end = protocol.sample_range(protocol.LIVE, first, count)
    assert end == protocol.live_end(first + count - 1)
    plan = lipsync_mel.lay_out(end - begin, begin, -1, first, count, max_frames=32)
    assert plan.sample_range == (begin, end)
    with pytest.raises(lipsync_mel.RequestError, match="need samples"):
        lipsync_mel.lay_out(end - begin - 1, begin, -1, first, count, max_frames=32)


@given(clips)
def test_live_frames(samples: int) -> None:
    frames = protocol.live_frames(samples)
    assert frames == lipsync_mel.live_frames(samples)
    assert protocol.live_end(frames) > samples
    assert frames == 0 or protocol.live_end(frames - 1) <= samples


@given(clips, st.data())
def test_the_margins_are_enough(samples: int, data: st.DataObject) -> None:
    total = protocol.frame_count(samples)
    first = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(1, min(32, total - first)))
    for length in (samples, protocol.LIVE):
        begin, end = protocol.sample_range(length, first, count)
        assert begin >= protocol.SAMPLES_PER_FRAME * first - protocol.MARGIN_BEFORE
        assert end <= protocol.SAMPLES_PER_FRAME * (first + count - 1) + protocol.MARGIN_AFTER


def test_the_margins_are_no_larger_than_needed() -> None:
    ranges = [protocol.sample_range(protocol.LIVE, frame, 1) for frame in range(100)]
    starts = [protocol.SAMPLES_PER_FRAME * frame for frame in range(100)]
    assert max(s - begin for s, (begin, _) in zip(starts, ranges, strict=True)) == (
        protocol.MARGIN_BEFORE
    )
    assert max(end - s for s, (_, end) in zip(starts, ranges, strict=True)) == protocol.MARGIN_AFTER
