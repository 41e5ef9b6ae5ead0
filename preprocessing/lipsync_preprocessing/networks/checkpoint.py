"""Checkpoints of the training code as ONNX, without running code from the file.

A checkpoint is read with `weights_only=True`, which returns tensors in plain containers or fails. The
graph is written from the arrays by `networks.build`; torch only reads the file.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from lipsync_preprocessing.contract import AUDIO_SHAPE
from lipsync_preprocessing.errors import CheckpointError
from lipsync_preprocessing.files import check_file
from lipsync_preprocessing.networks.build import build_audio_encoder, build_generator
from lipsync_preprocessing.networks.layers import (
    AUDIO_ENCODER_LAYERS,
    AUDIO_ENCODER_PREFIX,
    GENERATOR_CHANNELS,
    LayerSpec,
    State,
    audio_encoder_layers,
    generator_layers,
)

Arrays = dict[str, npt.NDArray[Any]]

_GENERATOR_KEY = "inc.inconv.0.conv.6.weight"  # [channels of the first level, ...]
_ENCODER_KEY = "0.conv_block.0.weight"  # [channels, 1, 3, 3]
_NESTING = 3  # depth to which a training checkpoint may wrap its state dict
_BATCH_NORM_ENTRIES = ("weight", "bias", "running_mean", "running_var")


def export_generator(path: str | Path) -> onnx.ModelProto:
    """Return the generator of a 99.pth: batch symbolic, opset 17, width as in the arrays."""
    return build_generator(load_generator_state(path))


def export_audio_encoder(path: str | Path) -> onnx.ModelProto:
    """Return the audio encoder of a checkpoint: batch symbolic, opset 17."""
    return build_audio_encoder(load_audio_encoder_state(path))


def load_generator_state(path: str | Path) -> State:
    """Return the generator's arrays of a checkpoint.

    Raises:
        CheckpointError: the file is no checkpoint, or holds another network or another audio mode.
    """
    for state in _states(path):
        found = _under_prefix(state, _GENERATOR_KEY)
        if found is None:
            continue
        width = len(found[_GENERATOR_KEY]) / GENERATOR_CHANNELS[0]
        first = found.get("audio_model.conv1.conv.0.weight")
        if first is not None and first.shape[1] != AUDIO_SHAPE[0]:
            raise CheckpointError(
                f"{path}: expected a generator of the 'ave' audio mode, with {AUDIO_SHAPE[0]} audio"
                f" channels, got one with {first.shape[1]}, which is another mode's"
            )
        _check(path, f"generator of width {width:g}", found, generator_layers(width))
        return found
    raise CheckpointError(
        f"{path}: expected a generator's state dict, with {_GENERATOR_KEY}; it has no such array"
    )


def load_audio_encoder_state(path: str | Path) -> State:
    """Return the audio encoder's arrays of a checkpoint; their `audio_encoder.` prefix may be missing.

    Raises:
        CheckpointError: the file is no checkpoint, or holds another network.
    """
    for state in _states(path):
        found = _under_prefix(state, _ENCODER_KEY, inputs=1)
        if found is None:
            continue
        named = {AUDIO_ENCODER_PREFIX + name: array for name, array in found.items()}
        width = len(found[_ENCODER_KEY]) / AUDIO_ENCODER_LAYERS[0][0]
        _check(path, f"audio encoder of width {width:g}", named, audio_encoder_layers(width))
        return named
    raise CheckpointError(
        f"{path}: expected an audio encoder's state dict, with {_ENCODER_KEY}; it has no such array"
    )


def _states(path: str | Path) -> Iterator[Arrays]:
    """Yield every dict of tensors in the checkpoint, the outermost first."""
    queue: list[tuple[object, int]] = [(_load(path), 0)]
    for value, depth in queue:
        if not isinstance(value, dict):
            continue
        tensors = {k: v for k, v in value.items() if isinstance(k, str) and hasattr(v, "detach")}
        if tensors:
            yield {k: _array(v) for k, v in tensors.items()}
        if depth < _NESTING:
            queue.extend((v, depth + 1) for v in value.values())


def _load(path: str | Path) -> object:
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path}: reading a checkpoint needs torch: pip install 'lipsync-triton[export]',"
            " or export it to ONNX where it was trained"
        ) from error
    check_file(Path(path), CheckpointError)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint that holds tensors alone, got other objects, or no"
            " checkpoint; it was not loaded, because that could run its code"
        ) from error
    except Exception as error:  # torch raises many types for a damaged file
        line = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path}: expected a checkpoint, cannot be read: {line}") from error


def _array(tensor: Any) -> npt.NDArray[Any]:  # torch.Tensor; torch is optional
    if tensor.is_floating_point():
        tensor = tensor.float()  # half precision too
    return np.asarray(tensor.detach().cpu().numpy())


def _under_prefix(state: Arrays, key: str, inputs: int | None = None) -> Arrays | None:
    """Return the arrays that share the key's prefix ("module.", "model.", …), without it."""
    for name, array in state.items():
        match = re.fullmatch(rf"((?:.*\.)?){re.escape(key)}", name)
        if match and array.ndim == 4 and inputs in (None, array.shape[1]):
            prefix = match[1]
            return {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)}
    return None


def _check(path: str | Path, what: str, state: Arrays, layers: Iterable[LayerSpec]) -> None:
    """Raise CheckpointError unless the state has exactly this network's arrays, all finite."""
    shapes: dict[str, tuple[int, ...]] = {}
    optional = set()
    for layer in layers:
        shapes[f"{layer.name}.weight"] = layer.shape
        if layer.bias:
            shapes[f"{layer.name}.bias"] = layer.shape[:1]
        if layer.batch_norm is not None:
            shapes.update({f"{layer.batch_norm}.{e}": layer.shape[:1] for e in _BATCH_NORM_ENTRIES})
            optional.add(f"{layer.batch_norm}.num_batches_tracked")
    for name, shape in shapes.items():
        if name not in state:
            raise CheckpointError(f"{path}: expected a {what} with {name}, it is missing")
        came = state[name].shape
        if came != shape:
            raise CheckpointError(
                f"{path}: expected a {what} with {name} {list(shape)}, got {list(came)}"
            )
        if not np.isfinite(state[name]).all():
            raise CheckpointError(f"{path}: expected finite weights, {name} has NaN or infinity")
    extra = sorted(state.keys() - shapes.keys() - optional)
    if extra:
        raise CheckpointError(f"{path}: expected a {what}, got one that has {extra[0]} too")
