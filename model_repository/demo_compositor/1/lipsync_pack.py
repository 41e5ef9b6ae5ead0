"""The frame pack of an avatar, and the images in it.

frames.npz (numpy, no pickles), written by `lipsync-avatar`:
    images   uint8 [bytes]   every frame as JPEG, PNG or WebP, or the packets of a video, one after the other;
                             not compressed
    offsets  int64 [K + 1]   where each begins
    rects    int32 [K, 4]    face rectangle x1, y1, x2, y2, inside the frame
    size     int32 [2]       width, height
    masks, mask_offsets      optional: a PNG per frame, the rectangle's size, 255 where the original stays
    codec, extradata, groups of a video: FFmpeg's name of the decoder (uint8, ASCII) and its parameters, and
                             int64 [G + 1], the first frame of each group that is decoded by itself
"""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
from bisect import bisect_right

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class StoredFrames:
    """The frames of a pack, decoded at each access; of a video, the last group stays decoded."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Mapped, not read: the pages are the kernel's to share between instances, and to let go.
        self._map, self._data = _mapped(path, "images")
        self._codec: str | None = None
        with np.load(path, allow_pickle=False) as pack:
            self._offsets: list[int] = pack["offsets"].tolist()
            self.width, self.height = pack["size"].tolist()
            if "codec" in pack:
                self._codec, self._extradata = (
                    bytes(pack["codec"]).decode(),
                    bytes(pack["extradata"]),
                )
                self._groups: list[int] = pack["groups"].tolist()
        self._first, self._group = 0, list[av.VideoFrame]()

    def __getitem__(self, k: int) -> Image:
        """Return frame k, uint8 (H, W, 3) BGR."""
        if self._codec is None:
            frame: Image | None = cv2.imdecode(self._stored(k), cv2.IMREAD_COLOR)
        else:
            if not self._first <= k < self._first + len(self._group):
                self._decode_group(bisect_right(self._groups, k) - 1)
            frame = self._group[k - self._first].to_ndarray(format="bgr24")  # type: ignore[assignment]
        if frame is None or frame.shape != (self.height, self.width, 3):
            raise ValueError(
                f"frame {k} of frames.npz: expected an image of {self.width}x{self.height} pixels;"
                " import the avatar again"
            )
        return frame

    def release(self) -> None:
        """Give back the memory of what was read; it is read again when it is needed."""
        self._first, self._group = 0, []
        self._map.madvise(mmap.MADV_DONTNEED)

    def _stored(self, k: int) -> Image:
        return self._data[self._offsets[k] : self._offsets[k + 1]]

    def _decode_group(self, number: int) -> None:
        begin, end = self._groups[number : number + 2]
        decoder = av.CodecContext.create(str(self._codec), "r")
        if not isinstance(decoder, av.VideoCodecContext):
            raise ValueError(f"codec of frames.npz: expected a video decoder, got {self._codec!r}")
        if self._extradata:
            decoder.extradata = self._extradata
        decoder.thread_count = 1  # parallelism comes from instances and requests
        frames: list[av.VideoFrame] = []
        for k in range(begin, end):
            data = self._stored(k).tobytes()
            packet = av.Packet(
                len(data)
            )  # has the padding that decoders read; Packet(data) has none
            packet.update(data)
            frames += decoder.decode(packet)
        self._first, self._group = begin, frames + decoder.decode(None)
        if len(self._group) != end - begin:
            raise ValueError(
                f"frames {begin} to {end - 1} of frames.npz: expected {end - begin} frames, could decode"
                f" {len(self._group)}; import the avatar again"
            )


def _mapped(path: str | os.PathLike[str], name: str) -> tuple[mmap.mmap, Image]:
    """Return a read-only map of an .npz, and in it an array that is not compressed."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:  # noqa: PTH123
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} of frames.npz is compressed: import the avatar again")
        file.seek(member.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
        file.seek(name_length + extra_length, os.SEEK_CUR)
        np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
        whole = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        return whole, np.ndarray(shape, dtype, whole, file.tell())
