"""The demo avatar's networks, made by hand: no weight in them was trained.

They keep the contract's shapes and order, so the whole chain is exercised, but what they know of
speech is loudness and hiss: the encoder measures both in each mel window, and the generator opens a
painted mouth as far. A trained 99.onnx and its audio encoder go in their places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FACE = 320
MOUTH = (158.0, 202.0)  # centre of the drawn mouth in the 320x320 face, x and y in pixels
# Colours as BGR in 0..1.
INSIDE, TEETH, TONGUE, LIPS = (
    (0.10, 0.06, 0.22),
    (0.93, 0.96, 0.97),
    (0.42, 0.40, 0.80),
    (0.36, 0.33, 0.76),
)
# Frame i sees embeddings i-8 … i+7; the window of number 7 is centred on the middle of frame i.
CENTRE = 7
SMOOTHING = ((CENTRE - 1, 0.25), (CENTRE, 0.5), (CENTRE + 1, 0.25))
# Mean of the normalised mel bands where the mouth begins to open, and where it is wide open.
QUIET, LOUD = -1.6, 0.3


def audio_encoder() -> Any:
    """mel [B,1,80,16] -> embedding [B,512]: loudness at 0, hiss at 1, both 0..1; the rest is 0."""
    middle = slice(5, 11)  # the columns nearest to the window's centre
    weights = np.zeros((80, 16, 512), np.float32)
    weights[2:50, middle, 0] = 1 / (48 * 6) / (LOUD - QUIET)
    weights[50:, middle, 1], weights[5:30, middle, 1] = 1 / (30 * 6) / 3, -1 / (25 * 6) / 3
    bias = np.zeros(512, np.float32)
    bias[:2] = -QUIET / (LOUD - QUIET), 0.2
    g = _Graph()
    flat = g.add("Flatten", "mel")
    sum_ = g.add(
        "Add", g.add("MatMul", flat, g.constant(weights.reshape(1280, 512))), g.constant(bias)
    )
    g.add("Clip", sum_, g.number(0), g.number(1), output="embedding")
    return g.model(
        "demo_audio_encoder", {"mel": ["batch", 1, 80, 16]}, {"embedding": ["batch", 512]}
    )


def generator() -> Any:
    """The contract's generator: input [B,6,320,320], audio [B,32,16,16] -> output [B,3,320,320]."""
    g = _Graph()
    loudness, hiss = _heard(g, 0), _heard(g, 1)
    opening = g.mul(loudness, g.sub(g.number(1), g.mul(hiss, g.number(0.6))))
    half_height = g.mul(opening, g.number(27))
    half_width = g.sub(g.number(44), g.mul(opening, g.number(10)))
    centre_y = g.sum(g.number(MOUTH[1]), g.mul(half_height, g.number(0.55)))
    grid = np.mgrid[:FACE, :FACE].astype(np.float32)
    y, x = (g.constant(axis[None, None]) for axis in grid)
    dx, dy = g.sub(x, g.number(MOUTH[0])), g.sub(y, centre_y)
    # A closed mouth is the drawing's own: what is painted over it fades in as the mouth opens.
    gate = g.add("Clip", g.mul(opening, g.number(9)), g.number(0), g.number(1))

    def ellipse(grow: float, shift: float = 0.0, squeeze: float = 1.0) -> str:
        """1 inside, 0 outside, soft for a pixel or two."""
        ry = g.sum(g.mul(half_height, g.number(squeeze)), g.number(1.5 + grow))
        rx = g.sum(g.mul(half_width, g.number(0.5 + squeeze / 2)), g.number(grow))
        down = g.sub(dy, g.mul(half_height, g.number(shift)))
        u, v = g.add("Div", dx, rx), g.add("Div", down, ry)
        radius = g.add("Sqrt", g.sum(g.mul(u, u), g.mul(v, v)))
        return g.add("Sigmoid", g.mul(g.sub(g.number(1), radius), g.number(28)))

    picture = g.add("Slice", "input", g.ints(0), g.ints(3), g.ints(1))
    inside = g.mul(ellipse(0), gate)
    picture = g.blend(picture, LIPS, g.mul(ellipse(7.5), gate))
    picture = g.blend(picture, INSIDE, inside)
    picture = g.blend(picture, TONGUE, g.mul(inside, ellipse(-2, shift=0.75, squeeze=0.55)))
    teeth_edge = g.sub(centre_y, g.mul(half_height, g.number(0.62)))
    teeth = g.add("Sigmoid", g.mul(g.sub(teeth_edge, y), g.number(1.2)))
    picture = g.blend(picture, TEETH, g.mul(inside, teeth))
    # The pipeline truncates to grey levels: half a level up keeps the untouched face as it is.
    g.add("Clip", g.sum(picture, g.number(0.4 / 255)), g.number(0), g.number(1), output="output")
    inputs = {"input": ["batch", 6, FACE, FACE], "audio": ["batch", 32, 16, 16]}
    return g.model("demo_generator", inputs, {"output": ["batch", 3, FACE, FACE]})


def write_models(directory: Path) -> tuple[Path, Path]:
    """Write generator.onnx and audio_encoder.onnx; their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = directory / "generator.onnx", directory / "audio_encoder.onnx"
    for path, model in zip(paths, (generator(), audio_encoder()), strict=True):
        onnx.save(model, str(path))
    return paths


def _heard(g: _Graph, element: int) -> str:
    """One element of the embeddings around the frame, smoothed: [B,1,1,1].

    The [32,16,16] block holds sixteen embeddings of 512 in a row: number e begins at channel 2e.
    """
    terms = []
    for entry, weight in SMOOTHING:
        channel = 2 * entry
        begin, end = g.ints(channel, 0, element), g.ints(channel + 1, 1, element + 1)
        value = g.add("Slice", "audio", begin, end, g.ints(1, 2, 3))
        terms.append(g.mul(value, g.number(weight)))
    return g.sum(g.sum(terms[0], terms[1]), terms[2])


class _Graph:
    """Collects nodes; every method gives the name of what it made."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, op: str, *inputs: str, output: str = "") -> str:
        name = output or f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name))
        return name

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.float32(value))

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def mul(self, a: str, b: str) -> str:
        return self.add("Mul", a, b)

    def sum(self, a: str, b: str) -> str:
        return self.add("Add", a, b)

    def sub(self, a: str, b: str) -> str:
        return self.add("Sub", a, b)

    def blend(self, picture: str, colour: tuple[float, float, float], amount: str) -> str:
        paint = self.constant(np.array(colour, np.float32).reshape(1, 3, 1, 1))
        return self.sum(picture, self.mul(self.sub(paint, picture), amount))

    def model(self, name: str, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> Any:
        def values(ports: dict[str, list[Any]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in ports.items()
            ]

        graph = helper.make_graph(
            self._nodes, name, values(inputs), values(outputs), self._constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model
