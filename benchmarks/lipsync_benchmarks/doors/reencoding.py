"""The web service as it would be without passthrough: raw frames, encoded by aiortc.

python -m lipsync_benchmarks.doors.reencoding OPTIONS OF LIPSYNC-WEB
"""

from __future__ import annotations

from fractions import Fraction

from av import VideoFrame

from lipsync_client import LiveFrame, RenderOptions
from lipsync_client.protocol import FPS
from lipsync_web import _session
from lipsync_web._tracks import VIDEO_CLOCK, AccessUnitTrack
from lipsync_web.cli import main


class RawTrack(AccessUnitTrack):
    """The video of a live session as raw frames."""

    def push(self, frame: LiveFrame) -> None:
        """Queue the image of a frame."""
        if frame.video is None:
            return
        image = VideoFrame.from_ndarray(frame.video, "yuv420p")
        image.pts, image.time_base = frame.index * (VIDEO_CLOCK // FPS), Fraction(1, VIDEO_CLOCK)
        self._items.put_nowait(image)  # type: ignore[arg-type]


if __name__ == "__main__":
    _session._OPTIONS = RenderOptions(output="I420")
    vars(_session)["AccessUnitTrack"] = RawTrack
    main()
