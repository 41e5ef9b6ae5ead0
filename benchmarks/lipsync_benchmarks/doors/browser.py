"""The page in Chromium: what its peer connection decodes, plays and counts."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page

from lipsync_client.protocol import FPS

from .curves import STEP_S, Points
from .mouth import Mouth, crop_of

_PROBE = (Path(__file__).parent / "probe.js").read_text()
VIDEO_CLOCK, AUDIO_CLOCK = 90_000, 48_000  # Hz, of RTP's timestamps (RFC 6184, RFC 7587)
_APART_MS = 40.0  # audio that is further from what the browser noted as played fills a gap
_SILENCE = 0.005  # loudness of what is not heard, full scale 1
# Switches of a Chromium that asks nobody but the page, and has a microphone that needs no leave.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


@dataclass
class Probe:
    """The page's live session, recorded from inside the page.

    The timeline is RTP's: that of the audio. The video's is laid on it by what the browser showed and played
    at the same time, so that a shift is what somebody sees and hears; or by RTP timestamps that belong
    together, so that it is what the service sends.

    Args:
        page: with a live session that plays.
        mouth: of the avatar.
        origin: given RTP timestamps of a frame and of audio, return those of the session's first frame and
            of its audio; None if the service does not tell.
    """

    page: Page
    mouth: Mouth
    origin: Callable[[int, int], tuple[int, int]] | None = None
    _frames: list[int] = field(default_factory=list)  # RTP timestamps
    _crops: list[NDArray[np.uint8]] = field(default_factory=list)
    _blocks: list[tuple[float, float]] = field(default_factory=list)  # ms, loudness
    # Of a frame and of audio at one time: ms, RTP timestamp.
    _played: list[tuple[float, int, float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        x, y, width, height = self.mouth.box
        # The planes of colour have half the size, so the region begins and ends at even pixels.
        right, bottom = (x + width + 1) // 2 * 2, (y + height + 1) // 2 * 2
        self._even = (x // 2 * 2, y // 2 * 2, right - x // 2 * 2, bottom - y // 2 * 2)
        region = dict(zip(("x", "y", "width", "height"), self._even, strict=True))
        self.page.evaluate(_PROBE, region)

    def take(self) -> None:
        """Fetch what the page has recorded since the last call."""
        seen: dict[str, list[Any]] = self.page.evaluate("window.take()")
        x, y, width, height = self._even
        box = self.mouth.box
        inner = (box[0] - x, box[1] - y, box[2], box[3])
        for rtp, text in zip(seen["frames"], seen["crops"], strict=True):
            grey = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width)
            self._frames.append(int(rtp))
            self._crops.append(crop_of(grey, inner))
        self._blocks += [(float(at), float(loud)) for at, loud in seen["blocks"]]
        self._played += [(float(v), int(rv), float(a), int(ra)) for v, rv, a, ra in seen["played"]]

    def clear(self) -> None:
        """Forget what was recorded, and begin the timeline anew."""
        self.take()
        for recorded in (self._frames, self._crops, self._blocks, self._played):
            recorded.clear()

    @property
    def frames(self) -> int:
        """Return how many frames were decoded."""
        return len(self._frames)

    def heard_s(self) -> float:
        """Return for how long something was heard, s."""
        return sum(loud > _SILENCE for _, loud in self._blocks) * STEP_S

    def sound(self) -> Points:
        """Return the loudness of the audio that was played; what filled gaps is left out."""
        blocks = np.array(self._blocks)
        _, _, at, rtp = np.array(self._played).T
        at, first = np.unique(at, return_index=True)
        media_ms = _since(self._played[0][3], rtp[first]) * 1000 / AUDIO_CLOCK
        after = np.searchsorted(at, blocks[:, 0]).clip(1, len(at) - 1)
        nearest = np.where(
            blocks[:, 0] - at[after - 1] < at[after] - blocks[:, 0], after - 1, after
        )
        apart = blocks[:, 0] - at[nearest]
        kept = np.abs(apart) < _APART_MS
        times = (media_ms[nearest] + apart)[kept] / 1000
        order = np.argsort(times, kind="stable")
        return Points(times[order], blocks[kept, 1][order])

    def opening(self) -> Points:
        """Return the mouth's opening in the frames that were decoded."""
        rtp = np.array(self._frames)
        video = _since(self._frames[0], rtp)
        numbers = np.rint(video * FPS / VIDEO_CLOCK).astype(np.int64)
        shown_at, shown, played_at, played = np.array(self._played).T
        if self.origin is None:
            # Both as milliseconds since the first frame, and the first audio, that were noted.
            frame_ms = _since(self._frames[0], shown) * 1000 / VIDEO_CLOCK
            audio_ms = _since(self._played[0][3], played) * 1000 / AUDIO_CLOCK
            skew_ms = float(np.median((shown_at - frame_ms) - (played_at - audio_ms)))
        else:
            first_frame, first_audio = self.origin(int(rtp[0]), int(played[0]))
            skew_ms = (rtp[0] - first_frame) * 1000 / VIDEO_CLOCK
            skew_ms -= (played[0] - first_audio) * 1000 / AUDIO_CLOCK
        values = self.mouth.openings(np.stack(self._crops), numbers)
        return Points(video / VIDEO_CLOCK + skew_ms / 1000, values)


def _since(first: int, rtp: NDArray[Any]) -> NDArray[np.float64]:
    """Return how far RTP timestamps, of 32 bits, are after a first one, in steps of their clock."""
    return np.asarray((rtp - first + 2**31) % 2**32 - 2**31, np.float64)


def decoded(page: Page) -> dict[str, float]:
    """Return the browser's figures of the page's video: decoded, freezes, fps, buffer_s."""
    figures = page.evaluate("window.lipsync.session.figures()")
    return cast(dict[str, float], figures["peer"])
