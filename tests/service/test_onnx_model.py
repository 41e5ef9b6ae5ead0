"""The stand-in for Triton's onnxruntime backend refuses the configs that the native backend refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import json_format, text_format
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig

from lipsync_embedded.config_error import ConfigError
from lipsync_embedded.kept_items import KeptItems, in_parts
from lipsync_embedded.onnx_model import OnnxModel

Array = NDArray[Any]


def load(repository: Path, old: str = "", new: str = "", kind: str = "CPU") -> OnnxModel:
    """Load `audio_window` as Triton would, with its config changed as text."""
    text = (repository / "audio_window/config.pbtxt").read_text()
    assert old in text
    message = text_format.Parse(text.replace(old, new, 1), ModelConfig())
    config = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return OnnxModel(repository / "audio_window/1", config, kind, 0)


def test_the_config_as_it_is(toy_repository: Path) -> None:
    model = load(toy_repository)
    assert (model.inputs, model.outputs) == (["embedding", "index"], ["audio"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "TYPE_INT64",
            "TYPE_INT32",
            "input 'index' is tensor(int64) in the graph, TYPE_INT32 in the config",
        ),
        (
            "dims: [ -1, 16 ]",
            "dims: [ -1, 8 ]",
            "dims [-1, 16] in the graph, [-1, 8] in the config",
        ),
        ('name: "index"', 'name: "place"', "the graph's inputs ['index'] are not in the config"),
        ('name: "audio"', 'name: "sound"', "output 'sound' is not in the graph"),
        ('string_value: "1"', 'string_value: "many"', "must be an integer, got 'many'"),
        ("max_batch_size: 0", "max_batch_size: 4", "in the config (with the batch)"),
        ('"model.onnx"', '"other.onnx"', "other.onnx does not exist"),
        (
            "max_batch_size: 0",
            "max_batch_size: 0 optimization { graph { level: 7 } }",
            "optimization.graph.level must be one of",
        ),
    ],
)
def test_a_config_that_the_native_backend_refuses(
    toy_repository: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError) as failure:
        load(toy_repository, old, new)
    assert message in str(failure.value)


def test_a_gpu_that_is_not_there(toy_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ConfigError, match="instance kind GPU, but onnxruntime-gpu"):
        load(toy_repository, kind="GPU")


def test_equal_items_are_computed_once_and_equal_what_is_computed_anew() -> None:
    rng = np.random.default_rng(1)
    batches: list[int] = []

    def run(arrays: list[Array], sizes: list[int]) -> Iterator[list[Array]]:
        batches.append(len(arrays[0]))
        yield from in_parts([arrays[0] * 2, arrays[0].sum(axis=1) + arrays[1]], sizes)

    kept = KeptItems(run, budget=10 * 20)  # ten items, of four float32 and one
    items = (
        rng.standard_normal((14, 4)).astype(np.float32),
        rng.integers(0, 9, 14).astype(np.float32),
    )
    computed = []
    for chosen in ([0, 1, 2, 1], [2, 3, 0], [3, 3], [*range(4, 14)], [13, 0], [9]):
        arrays = [array[chosen] for array in items]
        batches.clear()
        sizes = [1, len(chosen) - 1] if len(chosen) > 1 else [1]
        results = list(kept(arrays, sizes))
        computed.append(sum(batches))
        for found, expected in zip(results, run(arrays, sizes), strict=True):
            for result, array in zip(found, expected, strict=True):
                assert np.array_equal(result, array)
    assert computed == [3, 1, 0, 10, 1, 0], "the first four made room for the last ten"
