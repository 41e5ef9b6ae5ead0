"""Make docs/images/paste.jpg, and print the effect of each option on the seam; needs the demo avatar."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "model_repository/demo_compositor/1"))
from lipsync_frames import AvatarFrames, Paste  # noqa: E402

FRAME, TOO_BRIGHT = 10, 14
OPTIONS = {
    "hard": Paste(),
    "colour match": Paste(colour_match=True),
    "feather 24": Paste(feather_px=24),
}


def seam(face: NDArray[np.uint8]) -> float:
    """Return the mean step in grey levels across the patch's edge."""
    edge = round(4 / 328 * len(face))
    sides = [np.rot90(face, turn)[:, 20:-20].astype(float) for turn in range(4)]
    return float(np.mean([np.abs(s[edge + 1] - s[edge - 2]).mean() for s in sides]))


def main() -> None:
    """Paste the avatar's own face, too bright, with each of OPTIONS."""
    pack = ROOT / "model_repository/demo_compositor/1/frames.npz"
    avatar = AvatarFrames(pack, 0)
    frame = avatar.bgr(FRAME)
    x1, y1, x2, y2 = avatar.rects[FRAME]
    crop = cv2.resize(frame[y1:y2, x1:x2], (328, 328), interpolation=cv2.INTER_CUBIC)
    patch = np.clip(crop[4:324, 4:324].astype(int) + TOO_BRIGHT, 0, 255).astype(np.uint8)
    wide = np.s_[y1 - 40 : y2 + 20, x1 - 30 : x2 + 30]
    views, own = [], seam(frame[y1:y2, x1:x2])
    for name, paste in OPTIONS.items():
        out = np.empty_like(frame)
        AvatarFrames(pack, 0, paste).compose_bgr(FRAME, patch, out)
        print(f"{name}: {seam(out[y1:y2, x1:x2]) - own:+.1f} grey levels against the frame itself")
        views.append(out[wide])
    image = np.concatenate([*views, frame[wide]], axis=1)
    cv2.imwrite(str(Path(__file__).with_name("paste.jpg")), image, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
