"""The rate limiter in a GPU's profiles: generators of several avatars take turns."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from lipsync_embedded import Server
from lipsync_preprocessing.avatar import add_avatar
from lipsync_preprocessing.profiles.files import make_profile
from lipsync_preprocessing.profiles.settings import ProfileSettings
from lipsync_preprocessing.repository import Repository
from support.triton_calls import Triton

GENERATORS = ("anna_generator", "berta_generator")


@pytest.mark.server
def test_generators_take_turns_where_triton_is_told_to(
    repository: Path, raw_dataset: Path, generator_file: Path, encoder_file: Path, tmp_path: Path
) -> None:
    for name in ("anna", "berta"):
        add_avatar(repository, name, raw_dataset, generator_file, encoder_file)
        on_cpu(repository, name)
    log = tmp_path / "trace.json"
    settings = ("rate=1", "level=TIMESTAMPS", f"triton,file={log}")
    arguments = ["--rate-limit=execution_count", *(f"--trace-config={s}" for s in settings)]
    with (
        Server(repository, models=GENERATORS, profile="turns", extra_args=arguments) as server,
        ThreadPoolExecutor(8) as callers,
    ):
        list(callers.map(lambda n: generate(server, GENERATORS[n % 2]), range(24)))
    times = sorted(executions(json.loads(log.read_text())))
    assert {model for _, _, model in times} == set(GENERATORS)
    for (_, end, _), (begin, _, _) in pairwise(times):
        assert end <= begin, "two generators executed at once"


def on_cpu(repository: Path, name: str) -> None:
    """A profile `turns`: the usual config, with the instances of the profile `cuda`, but on the CPU."""
    store = Repository(repository)
    (text,) = (
        file.text
        for file in make_profile(store, name, "cuda", ProfileSettings())
        if file.model == name + "_generator"
    )
    config = store.config(name + "_generator")
    config.ClearField("instance_group")
    config.instance_group.extend(text_format.Parse(text, ModelConfig()).instance_group)
    for group in config.instance_group:
        group.kind = ModelInstanceGroup.KIND_CPU
    path = repository / f"{name}_generator/configs/turns.pbtxt"
    path.parent.mkdir()
    path.write_text(text_format.MessageToString(config))


def generate(server: Server, model: str) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "loop_index": np.arange(8, dtype=np.int64).reshape(8, 1),
        "audio": np.zeros((8, 32, 16, 16), np.float32),
    }
    assert Triton(server, "grpc").infer(model, tensors, ["patch"])["patch"].shape == (
        8,
        320,
        320,
        3,
    )


def executions(trace: list[dict[str, object]]) -> set[tuple[int, int, str]]:
    """Begin and end, in ns, and the model; the requests of a batch have the same ones."""
    models, times = {}, {}
    for event in trace:
        if "model_name" in event:
            models[event["id"]] = str(event["model_name"])
        for stamp in event.get("timestamps", []):  # type: ignore[attr-defined]
            if stamp["name"] in ("COMPUTE_START", "COMPUTE_END"):
                times[event["id"], stamp["name"]] = int(stamp["ns"])
    return {(times[i, "COMPUTE_START"], times[i, "COMPUTE_END"], m) for i, m in models.items()}
