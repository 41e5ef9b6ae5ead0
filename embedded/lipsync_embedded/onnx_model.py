"""An ONNX model that runs as on Triton's native `onnxruntime` backend, from the same config.

Configs that the native backend refuses are refused here too, so that a repository that loads in the embedded
server loads in production. Checked against the native backend of Triton 2.51.0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .accelerator import wanted_openvino
from .config_error import ConfigError
from .kept_items import KeptItems, RunItems, in_parts

Array = NDArray[Any]

_TYPES = {
    "tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16", "tensor(double)": "TYPE_FP64",
    "tensor(uint8)": "TYPE_UINT8", "tensor(int8)": "TYPE_INT8", "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32", "tensor(int64)": "TYPE_INT64", "tensor(bool)": "TYPE_BOOL",
    "tensor(string)": "TYPE_STRING",
}  # fmt: skip
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class OnnxModel:
    """One instance of a model.

    Args:
        directory: version directory.
        config: Triton's model config as JSON.
        kind: instance kind, "CPU" or "GPU" ("AUTO" takes a GPU if ONNX Runtime has one).
        device: GPU number.
    """

    def __init__(self, directory: Path, config: dict[str, Any], kind: str, device: int) -> None:
        self._max_batch: int = config["max_batch_size"]
        parameters = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
        providers = _providers(kind, device)
        cores = len(os.sched_getaffinity(0))
        # On a CPU a batch gains nothing over its items one by one, while two threads on one item wait for
        # each other at every layer, and worse when another process takes a core from one of them. So a
        # batch runs as items side by side, each on one thread.
        self._side_by_side = len(providers) == 1 and self._max_batch > 0
        options = _session_options(
            parameters, config.get("optimization", {}), 1 if self._side_by_side else cores
        )
        self._pool = ThreadPoolExecutor(max(1, cores // options.intra_op_num_threads))
        self._session = ort.InferenceSession(
            str(_model_file(directory, config)), options, providers=providers
        )
        _check(
            "input", config["input"], self._session.get_inputs(), self._max_batch, exhaustive=True
        )
        _check("output", config["output"], self._session.get_outputs(), self._max_batch)
        self.inputs: list[str] = [i["name"] for i in config["input"]]
        self.outputs: list[str] = [o["name"] for o in config["output"]]
        self._items: RunItems = self._on_threads
        self.description = (
            f"ONNX Runtime {ort.__version__}, {self._session.get_providers()[0]},"
            f" {self._pool._max_workers} x {options.intra_op_num_threads} threads"
        )
        accelerator = wanted_openvino(config.get("optimization", {}))
        if self._side_by_side and accelerator is not None:
            from .openvino_engine import OpenVinoItems

            streams = self._pool._max_workers
            path = _model_file(directory, config)
            del self._session  # it has checked the graph; its weights need not stay
            items = OpenVinoItems(path, self.inputs, self.outputs, streams, accelerator)
            self._items, self.description = items, items.description
        kept_mb = _integer(parameters, "kept_items_mb", 0)
        if self._side_by_side and kept_mb > 0:
            self._items = KeptItems(self._items, kept_mb << 20)

    def run(self, requests: list[list[Array]]) -> Iterator[list[Array]]:
        """Run several requests as one batch.

        Args:
            requests: for each request its input arrays, in the order of `inputs`.

        Yields:
            for each request its output arrays, in the order of `outputs`; on a CPU as soon as they are
            computed, while those of the next request are.
        """
        if self._max_batch == 0:
            yield from map(self._run, requests)
            return
        sizes = [request[0].shape[0] for request in requests]
        merged = [a[0] if len(a) == 1 else np.concatenate(a) for a in zip(*requests, strict=True)]
        if self._side_by_side:
            yield from self._items(merged, sizes)
        else:
            yield from in_parts(self._run(merged), sizes)

    def _on_threads(self, arrays: list[Array], sizes: list[int]) -> Iterator[list[Array]]:
        items = [[array[i : i + 1] for array in arrays] for i in range(len(arrays[0]))]
        results = self._pool.map(self._run, items)
        for size in sizes:
            part = islice(results, size)
            yield [np.concatenate(arrays) for arrays in zip(*part, strict=True)]

    def _run(self, arrays: list[Array]) -> list[Array]:
        feeds = dict(zip(self.inputs, arrays, strict=True))
        result: list[Array] = self._session.run(self.outputs, feeds)
        return result


def _model_file(directory: Path, config: dict[str, Any]) -> Path:
    """Return the graph's file; a directory of that name holds it together with its external data."""
    path = directory / (config.get("default_model_filename") or "model.onnx")
    if path.is_dir():
        path = path / "model.onnx"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: build it (make demo, or lipsync-avatar add)")
    return path


def _session_options(
    parameters: dict[str, str], optimization: dict[str, Any], default_threads: int
) -> Any:
    options = ort.SessionOptions()
    threads = _integer(parameters, "intra_op_thread_count", 0)
    options.intra_op_num_threads = threads or default_threads
    options.inter_op_num_threads = _integer(parameters, "inter_op_thread_count", 1)
    if _integer(parameters, "execution_mode", 0) == 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.enable_mem_pattern = bool(_integer(parameters, "enable_mem_pattern", 1))
    options.enable_cpu_mem_arena = bool(_integer(parameters, "enable_mem_arena", 1))
    level = int(optimization.get("graph", {}).get("level", 0))
    if level not in _GRAPH_LEVELS:
        raise ConfigError(
            f"optimization.graph.level must be one of {sorted(_GRAPH_LEVELS)}, got {level}"
        )
    options.graph_optimization_level = _GRAPH_LEVELS[level]
    # Several models share these cores: a thread that spins for work takes them from the others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _integer(parameters: dict[str, str], name: str, default: int) -> int:
    text = parameters.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"parameter {name} must be an integer, got {text!r}") from None


def _providers(kind: str, device: int) -> list[Any]:
    cuda = "CUDAExecutionProvider"
    if kind != "CPU" and cuda in ort.get_available_providers():
        # The default, exhaustive search repeats for every new shape (onnxruntime#6978).
        return [
            (cuda, {"device_id": device, "cudnn_conv_algo_search": "HEURISTIC"}),
            "CPUExecutionProvider",
        ]
    if kind == "GPU":
        raise ConfigError(
            "instance kind GPU, but onnxruntime-gpu is not installed or finds no CUDA"
        )
    return ["CPUExecutionProvider"]


def _check(
    what: str, config: list[Any], graph: list[Any], max_batch: int, exhaustive: bool = False
) -> None:
    """Refuse configs that the native backend refuses."""
    nodes = {node.name: node for node in graph}
    if exhaustive and (missing := sorted(set(nodes) - {t["name"] for t in config})):
        raise ConfigError(f"the graph's inputs {missing} are not in the config")
    for tensor in config:
        name = tensor["name"]
        node = nodes.get(name)
        if node is None:
            raise ConfigError(f"{what} {name!r} is not in the graph, which has {sorted(nodes)}")
        if tensor.get("optional"):
            raise ConfigError(f"{what} {name!r} is optional, which ONNX models do not allow")
        if _TYPES.get(node.type) != tensor["data_type"]:
            raise ConfigError(
                f"{what} {name!r} is {node.type} in the graph, {tensor['data_type']} in the config"
            )
        dims = [int(d) for d in (tensor.get("reshape") or tensor).get("shape", tensor["dims"])]
        if max_batch > 0:
            if not node.shape or isinstance(node.shape[0], int):
                raise ConfigError(
                    f"{what} {name!r} has no symbolic batch dimension, but max_batch_size is {max_batch}"
                )
            dims = [-1, *dims]
        real = [d if isinstance(d, int) else -1 for d in node.shape]
        if dims != real:
            raise ConfigError(
                f"{what} {name!r} has dims {real} in the graph, {dims} in the config (with the batch)"
            )
