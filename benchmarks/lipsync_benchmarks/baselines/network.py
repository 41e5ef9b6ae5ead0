"""The bare network, frame by frame: in this process, and through Triton.

Every call is timed, and statistics of the outputs are gathered outside that time, as in the earlier systems'
own benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..case import AVATAR, RenderInputs, cores
from ..job import Outcome
from .arithmetic import (
    AudioInputs,
    Floats,
    face_and_audio,
    loop_index,
    open_session,
    visual_input,
)

Call = Callable[[Floats, Floats], Floats]  # [n,6,320,320], [n,32,16,16] -> [n,3,320,320]


@dataclass
class OutputStatistics:
    """Mean, standard deviation, minimum and maximum over many arrays."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    minimum: float = float("inf")
    maximum: float = float("-inf")

    def add(self, array: Floats) -> None:
        flat = array.reshape(-1).astype(np.float64)
        self.count += flat.size
        self.total += float(flat.sum())
        self.squares += float(flat @ flat)
        self.minimum = min(self.minimum, float(flat.min()))
        self.maximum = max(self.maximum, float(flat.max()))

    def summary(self) -> tuple[float, float, float, float]:
        """Return mean, standard deviation, minimum and maximum."""
        mean = self.total / self.count
        variance = max(self.squares / self.count - mean**2, 0.0)
        return mean, variance**0.5, self.minimum, self.maximum


@dataclass
class Network:
    """Calls of the network for a clip's frames, one after the other; the inputs are in memory.

    Attributes:
        count: number of the clip's frames to make.
        batch: frames per call.
    """

    inputs: RenderInputs
    speech: Path
    count: int
    batch: int = 1
    _faces: list[Floats] = field(default_factory=list, init=False)

    def prepare(self) -> None:
        self._audio = AudioInputs(self.inputs.encoder)(self.speech)[: self.count]
        shown = [loop_index(i, len(self.inputs.rects)) for i in range(len(self._audio))]
        visual = {}
        for k in sorted(set(shown)):
            crop = cv2.imread(str(self.inputs.crops / f"{k}.bmp"))
            visual[k] = visual_input(np.asarray(crop, np.uint8))
        self._faces = [visual[k] for k in shown]
        self._call = self.connect()
        self._call(*self.call_inputs(0))

    def connect(self) -> Call:
        """Return a call of the bare ONNX Runtime session, with all cores for one frame."""
        generator = open_session(self.inputs.generator, cores())
        names = face_and_audio(generator)

        def call(faces: Floats, audio: Floats) -> Floats:
            output: Floats = generator.run(None, dict(zip(names, (faces, audio), strict=True)))[0]
            return output

        return call

    def call_inputs(self, n: int) -> tuple[Floats, Floats]:
        """Return the inputs of the call whose first frame is n."""
        block = self._audio[n : n + self.batch]
        return np.stack(self._faces[n : n + len(block)]), block

    def run(self) -> Outcome:
        """Make all frames; the outcome's seconds are those of the calls alone."""
        calls, statistics = [], OutputStatistics()
        for output, seconds in self.outputs():
            calls.append((seconds, len(output)))
            statistics.add(output)
        return Outcome(
            frames=len(self._audio),
            seconds=sum(seconds for seconds, _ in calls),
            first_frame_s=calls[0][0],
            calls=calls,
            output_statistics=statistics.summary(),
        )

    def outputs(self) -> Iterator[tuple[Floats, float]]:
        """Yield the output of each call, and the seconds it took."""
        for n in range(0, len(self._audio), self.batch):
            faces, audio = self.call_inputs(n)
            begun = time.perf_counter()
            output = self._call(faces, audio)
            yield output, time.perf_counter() - begun


@dataclass
class TritonNetwork(Network):
    """The same calls through Triton's client, one request at a time.

    Attributes:
        url: grpc://HOST:PORT or http://HOST:PORT of a server of the raw repository.
        model: name of the plain generator there.
    """

    url: str = ""
    model: str = f"{AVATAR}_raw"

    def connect(self) -> Call:
        scheme, address = self.url.split("://")
        if scheme == "grpc":
            import tritonclient.grpc as triton
        else:
            import tritonclient.http as triton
        client = triton.InferenceServerClient(address)
        outputs = [triton.InferRequestedOutput("output")]

        def call(faces: Floats, audio: Floats) -> Floats:
            inputs = []
            for name, array in (("input", faces), ("audio", audio)):
                inputs.append(triton.InferInput(name, array.shape, "FP32"))
                inputs[-1].set_data_from_numpy(array)
            output: Floats = client.infer(self.model, inputs, outputs=outputs).as_numpy("output")
            return output

        return call
