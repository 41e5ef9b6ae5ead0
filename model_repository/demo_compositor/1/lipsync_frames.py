"""The avatar's frames: the backgrounds in memory, and the paste of a patch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from lipsync_backgrounds import Backgrounds, write_backgrounds
from lipsync_pack import StoredFrames
from lipsync_shared import shared_memory
from numpy.typing import NDArray

Image = NDArray[np.uint8]

CROP = 328  # pixels: the square a rectangle is resized to
BORDER = 4  # pixels of the crop around the generator's 320x320 that stay original
FACE = CROP - 2 * BORDER
LEVEL_STEP_S = 0.0125  # between the levels that `mel` gives for a frame, which reach 0.35 s
EASE_S = 0.12  # from the patch to the avatar's own frame: three frames
_LAYOUT = 1  # of the backgrounds in memory; a new one gets a new number
# The generator sees this rim of the original; its patch should look the same there.
_RIM = np.ones((FACE, FACE), bool)
_RIM[5:310, 5:315] = False


class Paste(NamedTuple):
    """The options of a paste; without any, it is the contract's hard paste.

    Attributes:
        feather_px: width of the soft edge, in pixels of the 320 square.
        colour_match: shift the patch's colours so that its rim has the mean of the original's.
        silence_db: where the audio stays below this, in dB of full scale, the avatar's own frame is shown;
            None for never.
        silence_after_s: distance from any louder audio, before or after, at which that begins.
    """

    feather_px: float = 0.0
    colour_match: bool = False
    silence_db: float | None = None
    silence_after_s: float = 0.2

    @classmethod
    def from_parameters(cls, parameters: dict[str, dict[str, str]]) -> Paste:
        """Read a compositor's config parameters, in the form that Triton passes them."""

        def value(name: str, default: float = 0.0) -> float:
            return float(parameters.get(name, {}).get("string_value", default))

        return cls(
            value("paste_feather_px"),
            bool(value("paste_colour_match")),
            value("paste_silence_db") if "paste_silence_db" in parameters else None,
            value("paste_silence_after_s", cls._field_defaults["silence_after_s"]),
        )

    def own_share(self, levels: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the share of the avatar's own frame in each frame, by the audio around it.

        Args:
            levels: float32 (n, 2 r + 1) dB, every LEVEL_STEP_S, the middle one at the frame.

        Returns:
            float64 (n,): from 0, the patch as it is, to 1, the avatar's own frame.
        """
        if self.silence_db is None:
            return np.zeros(len(levels))
        reach = levels.shape[1] // 2
        away_s = np.abs(np.arange(-reach, reach + 1)) * LEVEL_STEP_S
        nearest_s = np.where(levels > self.silence_db, away_s, np.inf).min(axis=1)
        x = np.clip((nearest_s - self.silence_after_s) / EASE_S, 0.0, 1.0)
        return np.asarray(x * x * (3.0 - 2.0 * x))


class AvatarFrames:
    """An avatar's frames, of which as many stay decoded as the cache holds.

    The order is a ping-pong over all frames, so a least-recently-used cache would always miss: the frames
    that are used first stay, the others are decoded at each use.
    """

    def __init__(
        self, path: str | os.PathLike[str], cache_bytes: int, paste: Paste | None = None
    ) -> None:
        self._stored = StoredFrames(path)
        self.width, self.height = self._stored.width, self._stored.height
        with np.load(path, allow_pickle=False) as pack:
            self.rects: list[tuple[int, int, int, int]] = [tuple(r) for r in pack["rects"].tolist()]
            self._masks: Image | None = pack.get("masks")
            self._mask_offsets = pack["mask_offsets"].tolist() if "masks" in pack else []
        self._path, self._left = path, cache_bytes
        self._paste = paste = paste or Paste()
        self._soft_edge = _soft_edge(paste.feather_px)
        self._bgr: dict[int, Image] = {}
        self._backgrounds: Backgrounds | None = None

    @property
    def bgr_shape(self) -> tuple[int, int, int]:
        """Return the shape of a BGR frame: (height, width, 3)."""
        return self.height, self.width, 3

    @property
    def i420_shape(self) -> tuple[int, int]:
        """Return the shape of an I420 frame: (height * 3 / 2, width), both sides rounded down to even."""
        return (self.height & ~1) * 3 // 2, self.width & ~1

    def preload(self) -> None:
        """Decode frames for H.264, the usual output, until the cache is full.

        The processes that a tritonserver started share them.
        """
        if self._left <= 0:
            return
        pack = Path(self._path).stat()
        source = [_LAYOUT, pack.st_dev, pack.st_ino, pack.st_size, pack.st_mtime_ns, self._left]
        height, width = self.i420_shape
        memory = shared_memory(
            "lipsync-frames-" + "-".join(map(str, source)),
            lambda file: write_backgrounds(
                file, map(self._background, range(len(self))), self._left, height * width
            ),
        )
        self._backgrounds = Backgrounds(memory)
        self._left -= memory.nbytes
        self._stored.release()

    def __len__(self) -> int:
        return len(self.rects)

    def at(self, loop_index: int) -> int:
        """Return the frame at a place in the endless ping-pong, which starts at frame 1 (the contract)."""
        last = len(self) - 1
        if last == 0:
            return 0
        p = (loop_index + 1) % (2 * last)
        return p if p <= last else 2 * last - p

    def bgr(self, k: int) -> Image:
        """Return frame k, uint8 (H, W, 3) BGR; do not write to it."""
        frame = self._bgr.get(k)
        if frame is None:
            frame = self._stored[k]
            if self._keep(frame.nbytes):
                self._bgr[k] = frame
        return frame

    def _box(self, k: int) -> tuple[int, int, int, int]:
        """Return x1, y1, x2, y2, even: the face rectangle grown to whole chroma samples."""
        width, height = self.width & ~1, self.height & ~1
        x1, y1, x2, y2 = self.rects[k]
        return x1 & ~1, y1 & ~1, min(x2 + (x2 & 1), width), min(y2 + (y2 & 1), height)

    def _background(self, k: int) -> tuple[Image, Image]:
        """Return frame k as I420, BT.601, limited range, and the BGR pixels of its box."""
        frame = self._bgr[k] if k in self._bgr else self._stored[k]
        left, top, right, bottom = self._box(k)
        whole = frame[: self.height & ~1, : self.width & ~1]
        return cv2.cvtColor(whole, cv2.COLOR_BGR2YUV_I420), frame[top:bottom, left:right]

    def _copy_background(self, k: int, out: Image) -> Image:
        """Write frame k into `out`, and return a copy of the BGR pixels of its box."""
        if self._backgrounds is not None and k < len(self._backgrounds):
            left, top, right, bottom = self._box(k)
            self._backgrounds.copy_frame(k, out)
            return self._backgrounds.region(k, bottom - top, right - left).copy()
        whole, region = self._background(k)
        np.copyto(out, whole)
        return region.copy()

    def patched(self, k: int, crop: Image, patch: Image, own: float = 0.0) -> Image:
        """Return the face rectangle with the generator's patch in it.

        Args:
            k: frame.
            crop: uint8 (h, w, 3) BGR, the original pixels of the rectangle.
            patch: uint8 (320, 320, 3) BGR.
            own: share of the original, 0 to 1.

        Returns:
            uint8 (h, w, 3) BGR.
        """
        if own >= 1.0:
            return crop
        square = cv2.resize(crop, (CROP, CROP), interpolation=cv2.INTER_CUBIC)
        inner = square[BORDER:-BORDER, BORDER:-BORDER]
        inner[:] = self._blended(inner, patch, own)
        height, width = crop.shape[:2]
        face: Image = cv2.resize(square, (width, height), interpolation=cv2.INTER_CUBIC)
        mask = self._mask(k)
        if mask is not None:
            np.copyto(face, crop, where=mask[:, :, None] != 0)
        return face

    def _blended(self, face: Image, patch: Image, own: float) -> Image:
        """Return the patch with the paste options applied; both uint8 (320, 320, 3) BGR."""
        if not (own or self._paste.colour_match or self._soft_edge is not None):
            return patch
        result = patch.astype(np.float32)
        if self._paste.colour_match:
            result += face[_RIM].mean(axis=0) - patch[_RIM].mean(axis=0)
        if self._soft_edge is not None:
            result += (1 - self._soft_edge) * (face - result)
        if own:
            result += own * (face - result)
        return np.clip(result, 0, 255).round().astype(np.uint8)

    def compose_bgr(self, k: int, patch: Image, out: Image, own: float = 0.0) -> None:
        """Write frame k with the patch into `out`, uint8 (H, W, 3) BGR."""
        frame = self.bgr(k)
        x1, y1, x2, y2 = self.rects[k]
        np.copyto(out, frame)
        out[y1:y2, x1:x2] = self.patched(k, frame[y1:y2, x1:x2], patch, own)

    def compose_i420(self, k: int, patch: Image, out: Image, own: float = 0.0) -> None:
        """Write frame k with the patch into `out`, uint8 (H * 3 / 2, W) I420; only the face is converted."""
        region = self._copy_background(k, out)
        left, top, right, bottom = self._box(k)
        x1, y1, x2, y2 = self.rects[k]
        height, width = self.height & ~1, self.width & ~1
        inner = np.s_[y1 - top : min(y2, bottom) - top, x1 - left : min(x2, right) - left]
        # An odd frame loses its last row or column to 4:2:0; the rectangle may lie over it.
        crop = region[inner] if (y2 <= height and x2 <= width) else self.bgr(k)[y1:y2, x1:x2]
        face = self.patched(k, crop, patch, own)
        region[inner] = face[: min(y2, bottom) - y1, : min(x2, right) - x1]
        small = cv2.cvtColor(region, cv2.COLOR_BGR2YUV_I420).reshape(-1)
        for plane, (part, scale) in zip(
            _planes(out.reshape(-1), width, height),
            zip(_planes(small, right - left, bottom - top), (1, 2, 2), strict=True),
            strict=True,
        ):
            plane[top // scale : bottom // scale, left // scale : right // scale] = part

    def _mask(self, k: int) -> Image | None:
        if self._masks is None or self._mask_offsets[k] == self._mask_offsets[k + 1]:
            return None
        data = self._masks[self._mask_offsets[k] : self._mask_offsets[k + 1]]
        mask: Image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        return mask

    def _keep(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True


def _soft_edge(width: float) -> NDArray[np.float32] | None:
    """Return the weight of the patch, (320, 320, 1): 0 at its edge, 1 from `width` pixels inwards."""
    if width <= 0:
        return None
    line = np.minimum(np.arange(FACE), np.arange(FACE)[::-1]).astype(np.float32)
    ramp = np.clip(np.minimum(line[:, None], line[None]) / width, 0, 1)
    return np.asarray(ramp[:, :, None] ** 2 * (3 - 2 * ramp[:, :, None]), np.float32)


def _planes(i420: Image, width: int, height: int) -> tuple[Image, Image, Image]:
    """Return views of Y, U and V in a flat I420 image."""
    y, c = width * height, width * height // 4
    half = (height // 2, width // 2)
    return (
        i420[:y].reshape(height, width),
        i420[y : y + c].reshape(half),
        i420[y + c : y + 2 * c].reshape(half),
    )
