"""A video as a source of frames: what is stored of it, and its pixels.

A video's own packets are a twentieth of its frames as lossless images. They are stored as they are
where each group of at most GROUP frames decodes by itself (OpenCV writes a key frame every twelve).
Other videos are encoded again, without loss, into such groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import islice, pairwise, zip_longest
from pathlib import Path

import av
import av.error
import numpy as np

from lipsync_preprocessing.contract import FRAME_RATE
from lipsync_preprocessing.dataset.images import check_pixels
from lipsync_preprocessing.dataset.types import Image, VideoCoding
from lipsync_preprocessing.errors import DatasetError, one_line
from lipsync_preprocessing.files import check_file

GROUP = 16  # frames: a reader decodes a group to get at one of them
_REENCODED = "h264"


class FrameVideo:
    """The video of an MP4 file; a FrameSource."""

    first = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        check_file(path, DatasetError)
        with self._opened() as container:
            stream = container.streams.video[0]
            check_pixels(path, stream.width, stream.height)
            self.rate: Fraction | None = stream.average_rate
            self._codec = stream.codec_context.name
            self._extradata = stream.codec_context.extradata or b""
            packets = [p for p in container.demux(stream) if p.size]
        shown = [p for p in packets if not p.is_discard]  # an edit list may hide frames
        self._all_shown = len(shown) == len(packets)
        self._count = len(shown)
        starts = [k for k, packet in enumerate(shown) if packet.is_keyframe]
        self._groups = (*starts, self._count)
        self.size = self._first_size()
        self._is_copied = cache(self._decodes_by_groups)

    def __len__(self) -> int:
        return self._count

    def coding(self, selection: Sequence[int]) -> VideoCoding | None:
        if self._keeps(selection):
            return VideoCoding(self._codec, self._extradata, self._groups)
        groups = (*range(0, len(selection), GROUP), len(selection))
        return VideoCoding(_REENCODED, b"", groups)

    def read(self, selection: Sequence[int]) -> Iterator[tuple[Image, bytes]]:
        if self._keeps(selection):
            yield from zip(map(to_bgr, self._frames()), self._packets(), strict=True)
            return
        frames = _select(self._frames(), selection)
        while group := list(islice(frames, GROUP)):
            packets = _encode(group)
            decoded = decode_group(_REENCODED, b"", packets)
            for frame, again, packet in zip_longest(group, decoded, packets):
                image = to_bgr(frame)
                if again is None or packet is None or not np.array_equal(to_bgr(again), image):
                    raise DatasetError(
                        f"{self.path}: its pixel format {frame.format.name} cannot be stored without"
                        " loss; convert it with: ffmpeg -i VIDEO -pix_fmt yuv420p -crf 10 NEW.mp4"
                    )
                yield image, packet

    def _keeps(self, selection: Sequence[int]) -> bool:
        return len(selection) == self._count and self._is_copied()

    def _decodes_by_groups(self) -> bool:
        """Return whether each group of packets gives its frames, bit for bit, without the others."""
        if (
            not self._all_shown
            or self._groups[0]
            or any(b - a > GROUP for a, b in pairwise(self._groups))
        ):
            return False
        whole, packets = self._frames(), self._packets()
        for a, b in pairwise(self._groups):
            group = decode_group(self._codec, self._extradata, list(islice(packets, b - a)))
            expected = list(islice(whole, b - a))
            if len(group) != len(expected) or not all(map(_equal, group, expected)):
                return False
        return True

    def _first_size(self) -> tuple[int, int]:
        frame = next(self._frames(), None)
        if frame is None:
            raise DatasetError(f"{self.path}: expected a video, its first frame cannot be decoded")
        if frame.rotation:
            raise DatasetError(
                f"{self.path}: expected a video without rotation, got {frame.rotation} degrees;"
                " encode it again as it is shown"
            )
        return frame.width, frame.height

    def _frames(self) -> Iterator[av.VideoFrame]:
        """Yield every decoded frame in order; raise DatasetError if one has another size, or is lost."""
        done = 0
        with self._opened() as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_type = "AUTO"
            first: tuple[int, int] | None = None
            for frame in container.decode(stream):
                first = first or (frame.width, frame.height)
                if (frame.width, frame.height) != first:
                    raise DatasetError(
                        f"{self.path}: expected {first[0]}x{first[1]} pixels, the first frame's size, got"
                        f" {frame.width}x{frame.height} in frame {done}"
                    )
                done += 1
                yield frame
            if done != self._count:
                raise DatasetError(
                    f"{self.path}: expected {self._count} frames, could decode {done}"
                )

    def _packets(self) -> Iterator[bytes]:
        with self._opened() as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.size:
                    yield bytes(packet)

    def _opened(self) -> _Container:
        return _Container(self.path)


class _Container:
    """An MP4 file opened for reading; FFmpeg's errors, also those during its use, are DatasetErrors."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> av.container.InputContainer:
        try:
            # The format is given: otherwise a playlist with this suffix could name other files.
            self._container = av.open(f"file:{self._path}", format="mov")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from error
        if not self._container.streams.video:
            self._container.close()
            raise DatasetError(f"{self._path}: expected a video, it has no video stream")
        return self._container

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._container.close()
        if isinstance(error, av.error.FFmpegError):
            raise self._error(error) from error

    def _error(self, error: Exception) -> DatasetError:
        return DatasetError(
            f"{self._path}: expected a video, but it cannot be decoded: {one_line(error)}"
        )


def to_bgr(frame: av.VideoFrame) -> Image:
    """Return a decoded frame as uint8 (H, W, 3) BGR: the same bytes that OpenCV's VideoCapture gives."""
    return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def decode_group(codec: str, extradata: bytes, packets: Iterable[bytes]) -> list[av.VideoFrame]:
    """Return the frames of a group of packets, in the order of display."""
    decoder = av.CodecContext.create(codec, "r")
    if not isinstance(decoder, av.VideoCodecContext):
        raise DatasetError(f"expected the name of a video decoder, got {codec!r}")
    if extradata:
        decoder.extradata = extradata
    decoder.thread_count = 1
    frames = []
    for packet in (*map(_packet, packets), None):
        frames += decoder.decode(packet)
    return frames


def _packet(data: bytes) -> av.Packet[av.stream.Stream]:
    """Return a packet whose buffer has the padding that FFmpeg's decoders read into."""
    packet = av.Packet(len(data))  # Packet(data) would use the bytes' own buffer, without padding
    packet.update(data)
    return packet


def _encode(frames: list[av.VideoFrame]) -> list[bytes]:
    """Return one packet per frame, without loss in the frames' own pixel format."""
    encoder = av.CodecContext.create("libx264", "w")
    if not isinstance(encoder, av.VideoCodecContext):
        raise RuntimeError("FFmpeg's libx264 is not a video encoder in this PyAV")
    encoder.width, encoder.height = frames[0].width, frames[0].height
    encoder.pix_fmt = frames[0].format.name
    encoder.color_range = frames[0].color_range
    encoder.time_base, encoder.framerate = Fraction(1, FRAME_RATE), Fraction(FRAME_RATE)
    encoder.options = {
        "preset": "ultrafast",
        "qp": "0",
        "x264-params": "keyint=infinite:scenecut=0:bframes=0:threads=1",
    }
    packets = []
    for n, frame in enumerate(frames):
        frame.pts, frame.time_base = n, encoder.time_base
        frame.pict_type = av.video.frame.PictureType.NONE  # the source's key frames are not ours
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in (*packets, *encoder.encode(None))]


def _select(frames: Iterator[av.VideoFrame], places: Sequence[int]) -> Iterator[av.VideoFrame]:
    wanted = iter(places)
    place = next(wanted, None)
    for k, frame in enumerate(frames):
        while place == k:
            yield frame
            place = next(wanted, None)


def _equal(a: av.VideoFrame, b: av.VideoFrame) -> bool:
    return all(bytes(p) == bytes(q) for p, q in zip(a.planes, b.planes, strict=True))
