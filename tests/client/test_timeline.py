"""The client's index arithmetic, and the server's: two statements of one thing."""

from __future__ import annotations

import lipsync_mel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsync_client import protocol as timeline
from support import oracle

clips = st.integers(1, 400_000)


@given(clips)
def test_frame_count_is_the_oracles(samples: int) -> None:
    columns = 1 + max(samples, 3000) // 200
    assert timeline.frame_count(samples) == oracle.window_count(columns) + 2
    assert timeline.frame_count(samples) == lipsync_mel.clip_windows(samples) + 2


@given(clips, st.data())
def test_a_slice_is_what_the_server_needs_and_no_more(samples: int, data: st.DataObject) -> None:
    total = timeline.frame_count(samples)
    first = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(1, min(32, total - first)))
    begin, end = timeline.sample_range(samples, first, count)
    plan = lipsync_mel.make_plan(end - begin, begin, samples, first, count, max_frames=32)
    assert plan.sample_range == (begin, end)


@given(st.integers(0, 10_000), st.integers(1, 32))
def test_a_live_slice_is_what_the_server_needs_and_no_more(first: int, count: int) -> None:
    begin, end = timeline.sample_range(timeline.LIVE, first, count)
    assert end == timeline.live_end(first + count - 1)
    plan = lipsync_mel.make_plan(end - begin, begin, -1, first, count, max_frames=32)
    assert plan.sample_range == (begin, end)
    with pytest.raises(lipsync_mel.RequestError, match="need samples"):
        lipsync_mel.make_plan(end - begin - 1, begin, -1, first, count, max_frames=32)


@given(clips)
def test_live_frames(samples: int) -> None:
    frames = timeline.live_frames(samples)
    assert frames == lipsync_mel.live_frames(samples)
    assert timeline.live_end(frames) > samples
    assert frames == 0 or timeline.live_end(frames - 1) <= samples
