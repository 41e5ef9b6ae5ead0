"""Checkpoints of the training code -> ONNX, without running its code.

A checkpoint is read with `weights_only=True`: it yields tensors in plain containers, or nothing.
The graph is written from the arrays by `networks`, so torch serves only to read the file.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.errors import CheckpointError
from lipsync_preprocessing.networks import (
    AUDIO_ENCODER_PREFIX,
    AUDIO_SHAPE,
    GENERATOR_CHANNELS,
    LayerSpec,
    State,
    audio_encoder_layers,
    build_audio_encoder,
    build_generator,
    generator_layers,
)

_GENERATOR_KEY = "inc.inconv.0.conv.6.weight"  # [channels of the first level, ...]
_ENCODER_KEY = "0.conv_block.0.weight"  # [channels, 1, 3, 3]
_NESTING = 3  # how deep a training checkpoint may wrap its state dict


def export_generator(path: str | Path) -> Any:
    """99.pth as ONNX, batch symbolic, opset 17; the width is read off the arrays."""
    return build_generator(load_generator_state(path))


def export_audio_encoder(path: str | Path) -> Any:
    """The audio encoder's checkpoint as ONNX, batch symbolic, opset 17."""
    return build_audio_encoder(load_audio_encoder_state(path))


def load_generator_state(path: str | Path) -> State:
    """The generator's arrays of a checkpoint.

    Raises:
        CheckpointError: not a checkpoint, another network's, or of another audio mode.
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
                f" channels, got {first.shape[1]}: another mode's"
            )
        _check(path, f"generator of width {width:g}", found, generator_layers(width))
        return found
    raise CheckpointError(
        f"{path}: expected a generator's state dict, with {_GENERATOR_KEY}; it has no such array"
    )


def load_audio_encoder_state(path: str | Path) -> State:
    """The audio encoder's arrays of a checkpoint, with or without their `audio_encoder.` prefix."""
    for state in _states(path):
        found = _under_prefix(state, _ENCODER_KEY, inputs=1)
        if found is None:
            continue
        named = {AUDIO_ENCODER_PREFIX + name: array for name, array in found.items()}
        width = len(found[_ENCODER_KEY]) / 32
        _check(path, f"audio encoder of width {width:g}", named, audio_encoder_layers(width))
        return named
    raise CheckpointError(
        f"{path}: expected an audio encoder's state dict, with {_ENCODER_KEY}; it has no such array"
    )


def _states(path: str | Path) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Every dict of tensors in the checkpoint, the outermost first."""
    queue: list[tuple[Any, int]] = [(_load(path), 0)]
    for value, depth in queue:
        if not isinstance(value, dict):
            continue
        tensors = {k: v for k, v in value.items() if isinstance(k, str) and hasattr(v, "detach")}
        if tensors:
            yield {k: _array(v) for k, v in tensors.items()}
        if depth < _NESTING:
            queue.extend((v, depth + 1) for v in value.values())


def _load(path: str | Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path}: reading a checkpoint needs torch: pip install 'lipsync-triton[export]',"
            " or export it to ONNX where it was trained"
        ) from error
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: expected a checkpoint, there is no such file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint of tensors alone, got one with other objects, or no"
            " checkpoint; it was not loaded, since that could run its code"
        ) from error
    except Exception as error:  # whatever a damaged file makes of torch's reader
        line = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path}: expected a checkpoint, cannot be read: {line}") from error


def _array(tensor: Any) -> npt.NDArray[Any]:
    if tensor.is_floating_point():
        tensor = tensor.float()  # half precision too
    return np.asarray(tensor.detach().cpu().numpy())


def _under_prefix(
    state: dict[str, npt.NDArray[Any]], key: str, inputs: int | None = None
) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays that share the key's prefix ("module.", "model.", …), without it."""
    for name, array in state.items():
        match = re.fullmatch(rf"((?:.*\.)?){re.escape(key)}", name)
        fits = match and array.ndim == 4 and inputs in (None, array.shape[1])
        if match and fits:
            prefix = match[1]
            return {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)}
    return None


def _check(
    path: str | Path, what: str, state: dict[str, npt.NDArray[Any]], layers: Iterable[LayerSpec]
) -> None:
    """CheckpointError unless the state has exactly this network's arrays, all finite."""
    shapes: dict[str, tuple[int, ...]] = {}
    optional = set()
    for layer, weight, bias, norm in layers:
        shapes[f"{layer}.weight"] = weight
        if bias:
            shapes[f"{layer}.bias"] = weight[:1]
        if norm is not None:
            entries = ("weight", "bias", "running_mean", "running_var")
            shapes.update({f"{norm}.{entry}": weight[:1] for entry in entries})
            optional.add(f"{norm}.num_batches_tracked")
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
        raise CheckpointError(f"{path}: expected a {what}, got one with {extra[0]} besides")
