"""The bare network, frame by frame: in this process, and through Triton.

Every call is clocked, and the outputs' numbers are gathered outside the clock, as the earlier systems'
own benchmark did.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .baselines import Floats, Speech, face_and_audio, ping_pong, session, visual_input
from .case import AVATAR, Material, cores
from .job import Outcome

Call = Callable[[Floats, Floats], Floats]  # [n,6,320,320], [n,32,16,16] -> [n,3,320,320]


@dataclass
class Numbers:
    """Mean, standard deviation, least and most of many arrays."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, array: Floats) -> None:
        flat = array.reshape(-1).astype(np.float64)
        self.count += flat.size
        self.total += float(flat.sum())
        self.squares += float(flat @ flat)
        self.least = min(self.least, float(flat.min()))
        self.most = max(self.most, float(flat.max()))

    def summary(self) -> tuple[float, float, float, float]:
        mean = self.total / self.count
        variance = max(self.squares / self.count - mean**2, 0.0)
        return mean, variance**0.5, self.least, self.most


@dataclass
class Network:
    """Calls of the network for a clip's frames, one after the other; inputs in memory.

    Attributes:
        count: frames, of the clip's.
        batch: frames a call.
    """

    material: Material
    speech: Path
    count: int
    batch: int = 1
    _faces: list[Floats] = field(default_factory=list, init=False)

    def prepare(self) -> None:
        import cv2

        self._audio = Speech(self.material.encoder)(self.speech)[: self.count]
        rects = self.material.rects
        shown = sorted({ping_pong(i, len(rects)) for i in range(len(self._audio))})
        crops = {k: cv2.imread(str(self.material.crops / f"{k}.bmp")) for k in shown}
        inputs = {k: visual_input(np.asarray(crop)) for k, crop in crops.items()}
        self._faces = [inputs[ping_pong(i, len(rects))] for i in range(len(self._audio))]
        self.call = self.connect()
        self.call(*self.inputs(0))

    def connect(self) -> Call:
        """The bare ONNX Runtime session, all cores for one frame."""
        generator = session(self.material.generator, cores())
        names = face_and_audio(generator)

        def call(faces: Floats, audio: Floats) -> Floats:
            result: Floats = generator.run(None, dict(zip(names, (faces, audio), strict=True)))[0]
            return result

        return call

    def inputs(self, n: int) -> tuple[Floats, Floats]:
        block = self._audio[n : n + self.batch]
        return np.stack(self._faces[n : n + len(block)]), block

    def run(self) -> Outcome:
        """Seconds are the calls' alone."""
        calls, numbers = [], Numbers()
        for output, seconds in self.outputs():
            calls.append((seconds, len(output)))
            numbers.add(output)
        return Outcome(
            frames=len(self._audio),
            seconds=sum(seconds for seconds, _ in calls),
            first_frame_s=calls[0][0],
            calls=calls,
            numbers=numbers.summary(),
        )

    def outputs(self) -> Any:
        """Each call's output, and the seconds it took."""
        for n in range(0, len(self._audio), self.batch):
            faces, audio = self.inputs(n)
            begun = time.perf_counter()
            output = self.call(faces, audio)
            yield output, time.perf_counter() - begun


@dataclass
class TritonNetwork(Network):
    """The same through Triton's client, one request at a time.

    Attributes:
        url: grpc://HOST:PORT or http://HOST:PORT of a server of the raw repository.
        model: its name there.
    """

    url: str = ""
    model: str = f"{AVATAR}_raw"

    def connect(self) -> Call:
        scheme, address = self.url.split("://")
        if scheme == "grpc":
            import tritonclient.grpc as triton
        else:
            import tritonclient.http as triton
        client: Any = triton.InferenceServerClient(address)
        wanted = [triton.InferRequestedOutput("output")]

        def call(faces: Floats, audio: Floats) -> Floats:
            inputs = []
            for name, array in (("input", faces), ("audio", audio)):
                inputs.append(triton.InferInput(name, array.shape, "FP32"))
                inputs[-1].set_data_from_numpy(array)
            result: Floats = client.infer(self.model, inputs, outputs=wanted).as_numpy("output")
            return result

        return call
