"""OpenVINO as a model's config asks for it: precision, the visual half kept, and what is refused."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import openvino
import pytest
from draw import draw_face
from google.protobuf import json_format
from numpy.typing import NDArray

from lipsync_benchmarks import random_weights
from lipsync_embedded import Server, accelerator, graph_steps
from lipsync_embedded.config_error import ConfigError
from lipsync_embedded.onnx_model import OnnxModel
from lipsync_preprocessing import networks
from lipsync_preprocessing.graphs.compile import compile_generator
from lipsync_preprocessing.graphs.networks import Generator, prepare_generator
from lipsync_preprocessing.repository import Repository, write_config
from support import oracle
from support.decoded_frames import assert_same_frames, psnr
from support.left_out import HARDWARE
from support.toy_avatars import ROOT, ToyAvatar
from support.triton_calls import Triton, speech

pytestmark = pytest.mark.slow

FRAMES = 4  # of the avatar `wide`
Patches = NDArray[Any]
Run = Callable[..., tuple[Patches, str]]
needs_bf16 = pytest.mark.skipif(
    not accelerator.cpu_has_bf16(), reason=HARDWARE + "this CPU does not multiply bf16"
)


def config(repository: Path, model: str, **parameters: str) -> dict[str, Any]:
    """A model's config as Triton hands it over, with OpenVINO asked for by these parameters."""
    message = Repository(repository).config(model)
    asked = message.optimization.execution_accelerators.cpu_execution_accelerator.add()
    asked.name = "openvino"
    asked.parameters.update(parameters)
    answer = json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert isinstance(answer, dict)
    return answer


@pytest.fixture(scope="module")
def run(toy_repository: Path) -> Run:
    """Patches of a true generator with few channels over two rounds of its ping-pong, and what ran."""
    rng = np.random.default_rng(0)
    count = 4 * FRAMES
    loop_index = np.arange(7, 7 + count, dtype=np.int64)[:, None]
    audio = rng.random((count, 32, 16, 16), np.float32)
    done: dict[tuple[tuple[str, str], ...], tuple[Patches, str]] = {}

    def patches(**parameters: str) -> tuple[Patches, str]:
        key = tuple(sorted(parameters.items()))
        if key not in done:
            settings = config(toy_repository, "wide_generator", **parameters)
            if not parameters:
                del settings["optimization"]
            model = OnnxModel(toy_repository / "wide_generator/1", settings, "CPU", 0)
            # Two requests in one batch, of uneven length.
            requests: list[list[NDArray[Any]]] = [
                [loop_index[:13], audio[:13]],
                [loop_index[13:], audio[13:]],
            ]
            answers = list(model.run(requests))
            assert [len(a[0]) for a in answers] == [13, count - 13]
            done[key] = np.concatenate([a[0] for a in answers]), model.description
        return done[key]

    return patches


def test_f32_is_what_onnx_runtime_gives(run: Run) -> None:
    plain, _ = run()
    patches, description = run(precision="f32")
    assert "OpenVINO" in description
    assert ", f32, " in description
    assert_same_frames(patches, plain)


def test_a_request_is_answered_while_the_next_one_of_its_batch_is_made(
    toy_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(toy_repository, "toy_generator")
    del settings["optimization"]
    model = OnnxModel(toy_repository / "toy_generator/1", settings, "CPU", 0)
    loop_index = np.arange(2, dtype=np.int64)[:, None]
    audio = np.random.default_rng(0).random((2, 32, 16, 16), np.float32)
    requests: list[list[NDArray[Any]]] = [[loop_index[n : n + 1], audio[n : n + 1]] for n in (0, 1)]
    alone = [next(model.run([request]))[0] for request in requests]
    first_is_answered, run = threading.Event(), model._run

    def second_waits(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        assert arrays[0][0, 0] == 0 or first_is_answered.wait(60)
        return run(arrays)

    monkeypatch.setattr(model, "_run", second_waits)
    answers = model.run(requests)
    assert np.array_equal(next(answers)[0], alone[0])
    first_is_answered.set()
    assert np.array_equal(next(answers)[0], alone[1])


@pytest.mark.parametrize("precision", ["f32", pytest.param("bf16", marks=needs_bf16)])
@pytest.mark.parametrize("budget_mb", ["2", "64"])
def test_a_kept_visual_half_costs_no_exactness(run: Run, precision: str, budget_mb: str) -> None:
    """In a batch that holds frames within the budget and others beyond it, in ping-pong order."""
    uncached, _ = run(precision=precision)
    cached, description = run(precision=precision, visual_cache_mb=budget_mb)
    found = re.search(r"visual half of (\d+) of 4 frames kept, (\d+) MB", description)
    assert found
    kept, megabytes = int(found[1]), int(found[2])
    if budget_mb == "2":
        assert 1 <= kept <= 3
        assert megabytes <= 2
    else:
        assert kept == FRAMES
    if precision == "f32":
        assert_same_frames(cached, uncached)
    else:  # the visual half was computed in f32 and rounded once
        exact, _ = run(precision="f32")
        assert psnr(cached, exact) >= psnr(uncached, exact)


@pytest.mark.parametrize("cache_mb", ["0", "64"])
def test_a_part_of_the_face_is_what_onnx_runtime_gives(
    toy_repository: Path, tmp_path: Path, cache_mb: str
) -> None:
    """A student's graph, whose patch has pixels of the frame beside those of the network."""
    rng = np.random.default_rng(0)
    at = slice(128, 288), slice(64, 288)
    network = networks.build_generator(random_weights.generator_state(1 / 8), at=at)
    faces = rng.integers(0, 256, (FRAMES, 320, 320, 3), np.uint8)
    model = compile_generator(Generator(network, "input", "audio", "output", at), faces)
    onnx.save(model, str(tmp_path / "model.onnx"))
    loop_index = np.arange(8, dtype=np.int64)[:, None]
    audio = rng.random((8, 32, 16, 16), np.float32)
    openvino_settings = config(
        toy_repository, "toy_generator", precision="f32", visual_cache_mb=cache_mb
    )
    plain = {k: v for k, v in openvino_settings.items() if k != "optimization"}
    patches = []
    for settings in (openvino_settings, plain):
        engine = OnnxModel(tmp_path, settings, "CPU", 0)
        patches.append(next(engine.run([[loop_index, audio]]))[0])
        kept = "visual half of 4 of 4 frames kept" in engine.description
        assert kept == (settings is openvino_settings and cache_mb == "64")
    assert_same_frames(*patches)
    outside = np.ones((320, 320), bool)
    outside[at] = False
    shown = faces[[1, 2, 3, 2, 1, 0, 1, 2]]
    np.testing.assert_array_equal(patches[0][:, outside], shown[:, outside])


@pytest.fixture(scope="module")
def trained(
    toy_repository: Path,
    toy_avatars: dict[str, ToyAvatar],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """The demo avatar's trained network on three of its own faces, by its own audio encoder."""
    directory = tmp_path_factory.mktemp("trained")
    generator = ROOT / "examples/demo/weights/generator.onnx"
    encoder = ROOT / "examples/demo/weights/audio_encoder.onnx"
    faces = []
    for k in (0, 40, 80):
        crop = cv2.resize(draw_face(k), (328, 328), interpolation=cv2.INTER_CUBIC)
        faces.append(crop[4:-4, 4:-4])
    model = compile_generator(prepare_generator(onnx.load(str(generator))), np.stack(faces))
    onnx.save(model, str(directory / "model.onnx"))
    audio = oracle.Oracle(toy_avatars["toy"].dataset, generator, encoder).audio(speech(1.0))[::4]
    loop_index = np.arange(len(audio), dtype=np.int64)[:, None]

    def patches(**parameters: str) -> tuple[Patches, str]:
        settings = config(toy_repository, "toy_generator", **parameters)
        if not parameters:
            del settings["optimization"]
        engine = OnnxModel(directory, settings, "CPU", 0)
        return next(engine.run([[loop_index, audio]]))[0], engine.description

    return patches


def test_the_steps_on_the_graph_change_nothing(trained: Run) -> None:
    """They apply to this network, not to the toys: it is wide enough."""
    model = openvino.Core().read_model(str(ROOT / "examples/demo/weights/generator.onnx"))
    model.reshape({p.get_any_name(): [1, *list(p.partial_shape)[1:]] for p in model.inputs})
    assert graph_steps.apply_steps(model) == (1, 1)
    assert_same_frames(trained(precision="f32", visual_cache_mb="64")[0], trained()[0])


@needs_bf16
def test_bf16_is_near_to_f32(trained: Run) -> None:
    """To 50 dB, in the patch alone: the whole frame, most of it the same, comes nearer."""
    exact, _ = trained()
    patches, description = trained(precision="bf16", visual_cache_mb="64")
    assert ", bf16, " in description
    assert psnr(patches, exact) >= 50
    assert not np.array_equal(patches, exact)  # it did run in another precision


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"precision": "f16"}, "precision must be one of f32, bf16, got 'f16'"),
        ({"visual_cache_mb": "-1"}, "visual_cache_mb must be a number of MiB, got '-1'"),
        ({"visual_cache_mb": "lots"}, "visual_cache_mb must be a number of MiB, got 'lots'"),
        ({"precison": "bf16"}, "unknown parameter 'precison' of openvino"),
    ],
)
def test_what_is_refused(toy_repository: Path, parameters: dict[str, str], words: str) -> None:
    settings = config(toy_repository, "toy_generator", **parameters)
    with pytest.raises(ConfigError, match=words):
        OnnxModel(toy_repository / "toy_generator/1", settings, "CPU", 0)


def test_another_accelerator_is_refused(toy_repository: Path) -> None:
    settings = config(toy_repository, "toy_generator")
    accelerators = settings["optimization"]["execution_accelerators"]
    accelerators["cpu_execution_accelerator"][0]["name"] = "xnnpack"
    with pytest.raises(ConfigError, match="unknown cpu_execution_accelerator 'xnnpack'"):
        OnnxModel(toy_repository / "toy_generator/1", settings, "CPU", 0)


def test_a_cache_for_a_model_without_frames_is_refused(toy_repository: Path) -> None:
    settings = config(toy_repository, "audio_encoder", visual_cache_mb="64")
    with pytest.raises(ConfigError, match="no part that depends on an avatar's frame alone"):
        OnnxModel(toy_repository / "audio_encoder/1", settings, "CPU", 0)


def test_bf16_is_refused_by_a_cpu_without_it(
    toy_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("model name\t: Old\nflags\t\t: fpu sse2 avx2 avx512f\n")
    monkeypatch.setattr(accelerator, "_CPU_INFO", cpu_info)
    settings = config(toy_repository, "toy_generator", precision="bf16")
    with pytest.raises(ConfigError, match="this CPU lacks it"):
        OnnxModel(toy_repository / "toy_generator/1", settings, "CPU", 0)


@pytest.mark.server
def test_a_server_honours_the_config(
    toy_repository: Path, oracles: dict[str, oracle.Oracle], tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    shutil.copytree(toy_repository, repository)
    message = Repository(repository).config("toy_generator")
    asked = message.optimization.execution_accelerators.cpu_execution_accelerator.add()
    asked.name = "openvino"
    asked.parameters["visual_cache_mb"] = "64"
    write_config(repository / "toy_generator", message)
    wave = speech(1.0)
    log = tmp_path / "log"
    with Server(repository, models=["toy"], log_file=log) as server:
        frames = Triton(server, "grpc").frames("toy", wave)
    assert_same_frames(frames, oracles["toy"].render(wave))
    assert "toy_generator: OpenVINO" in log.read_text()
    assert "visual half of 10 of 10 frames kept" in log.read_text()
