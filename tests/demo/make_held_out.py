"""Makes tests/demo/held_out: speech the demo's networks were not trained on, and the mouth drawn for it.

    python tests/demo/make_held_out.py

Needs the `train` extra (espeak-ng). The voices and the sentences are none of the training's.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / p) for p in ("tests", "examples/demo", "examples/demo/training")]

import corpus  # noqa: E402
from draw import draw_face  # noqa: E402
from mouth import Mouth  # noqa: E402
from speech import speak  # noqa: E402

from support.demo_motion import pose_of  # noqa: E402
from support.mouth_opening import opening  # noqa: E402

OUT = Path(__file__).with_name("held_out")
_SAME = "Both cats have always loved warm garlic bread by the harbour."
CLIPS = {
    "woman": (
        "en-us+f5",
        150,
        62,
        "Tomorrow we will move the piano up to the attic. Have you ever tasted mango?",
    ),
    "man": (
        "gmw/en-GB-x-rp+m6",
        165,
        40,
        "Five brave explorers vanished beyond the frozen lake, but the maps survived.",
    ),
    # The same words at 85 and at 200 Hz, the median of what librosa.pyin finds.
    "low": ("en-us+m6", 150, 30, _SAME),
    "high": ("en-us+f5", 150, 46, _SAME),
}


def main() -> None:
    """Write NAME.flac and NAME.json for each clip."""
    OUT.mkdir(exist_ok=True)
    for name, (voice, rate, pitch, text) in CLIPS.items():
        said = speak(text, voice, rate, pitch)
        peak = float(np.abs(said.samples).max())
        clip = corpus.clip(np.asarray(0.5 * said.samples / peak, np.float32), said.phonemes)
        soundfile.write(OUT / f"{name}.flac", clip.samples, 16_000, subtype="PCM_16")

        def drawn(i: int, mouths: NDArray[Any] = clip.mouth) -> float:
            return opening(draw_face(pose_of(i), Mouth(*map(float, mouths[i]))))

        with ThreadPoolExecutor(2) as pool:
            openings = list(pool.map(drawn, range(len(clip.mouth))))
        truth = {
            "text": text,
            "voice": voice,
            "mouth": clip.mouth.round(4).tolist(),
            "opening": np.round(openings, 2).tolist(),
        }
        (OUT / f"{name}.json").write_text(json.dumps(truth))
        print(name, len(openings), "frames, opening up to", max(openings))


if __name__ == "__main__":
    main()
