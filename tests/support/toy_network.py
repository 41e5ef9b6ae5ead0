"""Generators of a few layers, with the true one's inputs and output, for tests that make many frames."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Pixels: the face is seen in squares of this side, and drawn smoothly from one to the next.
_CELL = 8
_CHANNELS = 8
_LOGIT_STD = 0.8  # sigmoid(N(0, 0.8)) reaches 0.17 and 0.83 at two deviations


def build_toy_generator(seed: int, input_names: tuple[str, str]) -> onnx.ModelProto:
    """Return a model whose output depends on every pixel and on every value of the audio.

    Args:
        seed: of the weights.
        input_names: of visual [N, 6, 320, 320] and audio [N, 32, 16, 16].
    """
    rng = np.random.default_rng(seed)
    # Neighbouring brushes add up to 1.
    brush = np.sin((np.arange(2 * _CELL) + 0.5) * np.pi / (2 * _CELL)) ** 2
    weights = {
        "see": rng.normal(0, 0.1, (_CHANNELS, 6, _CELL, _CELL)),
        "hear": rng.normal(0, 0.008, (_CHANNELS, 32, 16, 16)),
        "draw": rng.normal(0, 1.0, (_CHANNELS, 3, 1, 1)) * brush * brush[:, None],
        "shift": np.zeros(3),
    }
    visual = rng.random((4, 6, 320, 320), np.float32)
    audio = rng.normal(0, 1.0, (4, 32, 16, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(_model(weights, input_names).SerializeToString())
    (faces,) = session.run(None, dict(zip(input_names, (visual, audio), strict=True)))
    logits = np.log(faces / (1 - faces))
    scale = _LOGIT_STD / logits.std()
    weights["draw"] *= scale
    weights["shift"] = -scale * logits.mean(axis=(0, 2, 3))
    return _model(weights, input_names)


def _model(weights: dict[str, NDArray[np.float64]], names: tuple[str, str]) -> onnx.ModelProto:
    square, cells = [_CELL, _CELL], [16, 16]
    nodes = [
        helper.make_node("Conv", [names[0], "see"], ["seen"], kernel_shape=square, strides=square),
        helper.make_node("Conv", [names[1], "hear"], ["heard"], kernel_shape=cells),
        helper.make_node("Add", ["seen", "heard"], ["both"]),
        helper.make_node("Tanh", ["both"], ["felt"]),
        helper.make_node(
            "ConvTranspose",
            ["felt", "draw", "shift"],
            ["logits"],
            kernel_shape=[2 * _CELL] * 2,
            strides=square,
            pads=[_CELL // 2] * 4,
        ),
        helper.make_node("Sigmoid", ["logits"], ["face"]),
    ]
    return _checked(nodes, weights, names)


def build_mouth_generator(weights: NDArray[np.float64], shift: float) -> onnx.ModelProto:
    """Return a model that gives the face back, its mouth the darker the larger a sum over the audio is.

    Args:
        weights: (512,), of the embedding of the frame's own moment.
        shift: added to the sum, which is cut to 0..1.
    """
    names = ("visual", "audio")
    rows, columns = np.mgrid[:320, :320]
    mouth = np.exp(-(((rows - 225) / 30.0) ** 2) - ((columns - 160) / 50.0) ** 2)
    hear = np.zeros((1, 32, 16, 16))
    hear[0, 16:18] = weights.reshape(2, 16, 16)
    nodes = [
        helper.make_node("Slice", [names[0], "begin", "end", "axis"], ["own"]),
        helper.make_node("Conv", [names[1], "hear", "shift"], ["heard"], kernel_shape=[16, 16]),
        helper.make_node("Clip", ["heard", "closed", "open"], ["opening"]),
        helper.make_node("Mul", ["opening", "mouth"], ["dark"]),
        helper.make_node("Mul", ["own", "dark"], ["lost"]),
        helper.make_node("Sub", ["own", "lost"], ["face"]),
    ]
    arrays = {"hear": hear, "shift": np.array([shift]), "mouth": mouth[None, None]}
    arrays |= {"closed": np.array(0.0), "open": np.array(1.0)}
    return _checked(nodes, arrays, names, begin=[0], end=[3], axis=[1])


def _checked(
    nodes: list[onnx.NodeProto],
    weights: dict[str, NDArray[np.float64]],
    names: tuple[str, str],
    **whole: list[int],
) -> onnx.ModelProto:
    """Return the model of these nodes, weights and whole numbers."""
    shapes = {names[0]: [6, 320, 320], names[1]: [32, 16, 16], "face": [3, 320, 320]}
    visual, audio, face = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in shapes.items()
    )
    arrays = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    arrays += [numpy_helper.from_array(np.array(n, np.int64), name) for name, n in whole.items()]
    graph = helper.make_graph(nodes, "toy", [visual, audio], [face], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
