"""The parts of a process's memory: the steps of a model's start, run in a fresh interpreter."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from lipsync_preprocessing.repository import COMPOSITOR, GENERATOR, Repository

from .tables import table

# Steps by model: label and code. Each runs in the same interpreter as those before it. The memory of a
# Python backend's stub itself (about 10 MiB) is not part of it.
MEL = (
    ("numpy", "import numpy as np"),
    ("lipsync_mel and its imports", "import lipsync_mel"),
    ("filter bank", "windows = lipsync_mel.MelWindows()"),
    (
        "first mel windows",
        "audio = np.zeros(16000, np.float32);"
        "windows(audio, 0, lipsync_mel.lay_out(audio.size, max_frames=audio.size))",
    ),
)
COMPOSITOR_STEPS = (
    ("numpy", "import numpy as np"),
    ("OpenCV", "import cv2; cv2.setNumThreads(1)"),
    ("PyAV", "import av"),
    (
        "frame pack",
        "from lipsync_frames import AvatarFrames, Paste;"
        "frames = AvatarFrames(folder + '/frames.npz', cache_mb << 20, Paste())",
    ),
    ("decoded frames", "frames.preload()"),
    (
        "first 16 frames to H.264",
        "import lipsync_encode as encode;"
        "planes = [np.zeros((frames.height * 3 // 2, frames.width), np.uint8)] * 16;"
        "encode.h264(planes, encode.Options.parse({}))",
    ),
)
GENERATOR_STEPS = (
    ("numpy", "import numpy as np"),
    ("ONNX Runtime", "import onnxruntime"),
    (
        "session",
        "from pathlib import Path; from lipsync_embedded.onnx_model import OnnxModel;"
        "model = OnnxModel(Path(folder), config, 'CPU', 0)",
    ),
    *(
        (
            f"batch of {n}",
            f"model.run([[np.zeros(({n}, 1), np.int64), np.zeros(({n}, 32, 16, 16), np.float32)]])",
        )
        for n in (1, 16, 32)
    ),
)
_SCRIPT = """
import gc, json, sys
steps, values = json.loads(sys.argv[1])
def uss():
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(x.split()[1]) for x in file if x.startswith("Private_")) / 1024
sizes = [uss()]
for _, code in steps:
    exec(code, values)
    sizes.append(uss())
print(json.dumps(sizes))
"""


def measure_parts(
    steps: tuple[tuple[str, str], ...], folder: Path, **values: object
) -> dict[str, float]:
    """Return the memory that each step adds (USS), MiB.

    Args:
        steps: label and Python code; the code sees `folder` and `values`.
        folder: a model's version folder, whose modules can be imported.
    """
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    arguments = json.dumps([steps, {"folder": str(folder), **values}])
    output = subprocess.check_output(
        [sys.executable, "-c", _SCRIPT, arguments], text=True, env=os.environ | {"PYTHONPATH": path}
    )
    sizes: list[float] = json.loads(output.splitlines()[-1])
    labels = ["Python", *(label for label, _ in steps)]
    added = [sizes[0], *(after - before for before, after in itertools.pairwise(sizes))]
    return dict(zip(labels, added, strict=True))


def parts_tables(repository: Path, avatar: str) -> str:
    """Return Markdown tables of the parts of `mel`, the compositor and the generator."""
    store = Repository(repository)
    cache_mb = store.config(avatar + COMPOSITOR).parameters["frame_cache_mb"].string_value
    config = MessageToDict(store.config(avatar + GENERATOR), preserving_proto_field_name=True)
    parts = {
        "mel": measure_parts(MEL, repository / "mel/1"),
        "compositor": measure_parts(
            COMPOSITOR_STEPS, repository / f"{avatar}{COMPOSITOR}/1", cache_mb=int(cache_mb)
        ),
        "generator, ONNX Runtime": measure_parts(
            GENERATOR_STEPS, repository / f"{avatar}{GENERATOR}/1", config=config
        ),
    }
    text = "\n### Parts of the processes\n\nMiB (USS) that each step of a model's start adds.\n"
    for model, sizes in parts.items():
        text += "\n" + table(
            [model, *sizes, "all"],
            [["", *(f"{x:.0f}" for x in sizes.values()), f"{sum(sizes.values()):.0f}"]],
        )
    return text
