"""A test of whether a generator was trained with the audio features that it gets.

The training code has three kinds of audio features, and a checkpoint of one loads as one of another: the
shapes are the same. But the batch norms bring the features of the training to values of order one in every
layer. Features of another kind have another scale, and give values far from it: the mouth moves wildly, or
hardly at all. Measured on the demo avatar: a scale of 1.2, and 5.5, 24 and 75 with embeddings three, ten
and thirty times as large; a response of 1.03, and 0.11 with embeddings of a thirtieth.

Features of another kind that happen to have the same scale are not noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from lipsync_preprocessing.errors import AvatarError
from lipsync_preprocessing.graphs.trial_run import FATAL

Floats = npt.NDArray[np.float32]

_LARGEST_SCALE = 2.5
_SMALLEST_RESPONSE = 0.15
_EDGE = 8  # frames at both ends of a clip, whose audio windows hold zero vectors
_ADVICE = (
    "Was the generator trained with other audio features than 'ave' (hubert, wenet), or with another audio"
    " encoder?"
)


@dataclass(frozen=True)
class AudioFit:
    """Statistics of the generator's audio layers.

    Attributes:
        scale: root mean square of their values for speech, the median of channels and layers; about 1 if
            the features are those of the training.
        response: root mean square of the difference between speech and silence, divided by `scale`.
    """

    scale: float
    response: float

    def check(self) -> None:
        """Raise AvatarError if the mouth cannot follow the audio."""
        if self.scale > _LARGEST_SCALE:
            raise AvatarError(
                "the mouth does not follow the audio: the generator's audio layers get values"
                f" {self.scale:.1f} times as large as in training (expected at most {_LARGEST_SCALE})."
                f" {_ADVICE}"
            )
        if self.response < _SMALLEST_RESPONSE:
            raise AvatarError(
                "the mouth does not follow the audio: between speech and silence the generator's audio"
                f" layers change by {self.response:.0%} (expected at least {_SMALLEST_RESPONSE:.0%})."
                f" {_ADVICE}"
            )


def audio_fit(model: onnx.ModelProto, speech: Floats, silence: Floats) -> AudioFit | None:
    """Return the statistics of a generator's audio layers; None if it has no convolution of the audio.

    Args:
        model: the generator, compiled or not, whose audio input is `audio`.
        speech, silence: audio windows float32 [frames,32,16,16] of two clips of equal length.
    """
    layers = _audio_layers(model)
    names = [output.name for output in layers.graph.output]
    if not names:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    session = onnxruntime.InferenceSession(
        layers.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    spoken, silent = (session.run(names, {"audio": a[_EDGE:-_EDGE]}) for a in (speech, silence))
    scales = [_rms(values) for values in spoken]
    changes = [_rms(a - b) for a, b in zip(spoken, silent, strict=True)]
    responses = [c / np.maximum(s, 1e-9) for c, s in zip(changes, scales, strict=True)]
    return AudioFit(
        float(np.median([np.median(s) for s in scales])),
        float(np.median([np.median(r) for r in responses])),
    )


def _rms(values: Floats) -> npt.NDArray[np.float64]:
    """Return the root mean square of each channel of [frames, channels, height, width]."""
    return np.asarray(np.sqrt((values.astype(np.float64) ** 2).mean(axis=(0, 2, 3))))


def _audio_layers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the part of a generator that depends on the audio alone.

    Its outputs are those of the convolutions, after a batch norm if that is a node of its own.
    """
    graph = model.graph
    constants = {i.name for i in graph.initializer} | {""}
    of_audio, nodes = {"audio"}, []
    layers: dict[str, None] = {}
    for node in graph.node:
        inputs = [name for name in node.input if name not in constants]
        if not inputs:
            constants.update(node.output)
            nodes.append(node)
        elif of_audio.issuperset(inputs):
            of_audio.update(node.output)
            nodes.append(node)
            if node.op_type == "BatchNormalization":
                layers.pop(node.input[0], None)
            if node.op_type in ("Conv", "BatchNormalization"):
                layers[node.output[0]] = None
    used = {name for node in nodes for name in node.input}
    part = helper.make_graph(
        nodes,
        "audio_layers",
        [port for port in graph.input if port.name == "audio"],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in layers],
        [tensor for tensor in graph.initializer if tensor.name in used],
    )
    return helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
