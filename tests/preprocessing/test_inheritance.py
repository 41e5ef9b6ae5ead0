"""The teacher's weights and the part of its face that a student has before its first step."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from lipsync_preprocessing.distillation.inheritance import inherit
from lipsync_preprocessing.distillation.region import moved_region
from lipsync_preprocessing.networks.build import build_generator
from lipsync_preprocessing.networks.layers import WHOLE
from lipsync_preprocessing.networks.torch_networks import TorchGenerator
from lipsync_preprocessing.training.pairs import Batch

pytestmark = pytest.mark.slow


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a generator's graph under other names, with its audio branch first, as torch exports it."""
    graph = onnx.compose.add_prefix(model, "x/").graph
    nodes = sorted(graph.node, key=lambda node: "audio_model" not in node.output[0])
    ports = list(graph.input), list(graph.output), list(graph.initializer)
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "other", *ports))


def random_network(width: float) -> TorchGenerator:
    """Return a generator whose batch norms are not trivial."""
    torch.manual_seed(0)
    network = TorchGenerator(width)
    state = network.state_dict()
    for name, value in state.items():
        if value.ndim == 1:
            positive = name.endswith((".weight", "running_var"))
            torch.nn.init.uniform_(value, *((0.5, 2) if positive else (-0.5, 0.5)))
    network.load_state_dict(state)
    return network.eval()


def random_batch() -> Batch:
    inputs, audio = torch.rand(3, 6, 320, 320), torch.rand(3, 32, 16, 16)
    return Batch(inputs, audio, inputs[:, :3], torch.ones(1, 1, 1, 1), WHOLE)


def arrays_of(network: TorchGenerator) -> dict[str, Any]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def test_a_student_inherits_its_teachers_weights() -> None:
    teacher = random_network(0.125)
    graph = build_generator(arrays_of(teacher))
    batch = random_batch()
    inputs, audio = batch.inputs, batch.audio
    with torch.no_grad():
        expected = teacher(inputs, audio)
    for export in (graph, renamed(graph)):
        student = TorchGenerator(0.125)
        assert inherit(student, 0.125, export, batch)
        # With its batch norms fixed, and counted on the batch they were counted with.
        for network in (student.eval(), student.train()):
            with torch.no_grad():
                torch.testing.assert_close(network(inputs, audio), expected, rtol=0, atol=1e-3)
    other = TorchGenerator(0.125)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    narrower = build_generator(arrays_of(random_network(0.0625)))
    assert not inherit(other, 0.125, narrower, batch)
    graph.graph.node.append(onnx.helper.make_node("BatchNormalization", ["a"], ["b"]))
    assert not inherit(other, 0.125, graph, batch)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def widened(network: TorchGenerator, width: float) -> TorchGenerator:
    """Return a wider network that computes the same: its other channels hold nothing."""
    wide = TorchGenerator(width)
    state, narrow = wide.state_dict(), network.state_dict()
    for name, value in state.items():
        old = narrow[name]
        if value.ndim == 4:
            outputs, inputs = old.shape[:2]
            value.zero_()
            value[:outputs, :inputs] = old
            joined = name.startswith(("fuse_conv.0", "up"))
            if joined and name.endswith("double_conv.0.conv.0.weight"):
                half = inputs // 2  # two tensors, one after the other
                value[:outputs, half:inputs] = 0
                value[:outputs, value.shape[1] // 2 :][:, :half] = old[:, half:]
        elif value.ndim == 1:
            value.fill_(float("running_var" in name))
            value[: len(old)] = old
    wide.load_state_dict(state)
    return wide.eval()


def test_a_narrower_student_inherits_what_matters() -> None:
    small = random_network(0.0625)
    teacher, batch = widened(small, 0.125), random_batch()
    with torch.no_grad():
        expected = small(batch.inputs, batch.audio)
        torch.testing.assert_close(teacher(batch.inputs, batch.audio), expected)
    student = TorchGenerator(0.0625)
    assert inherit(student, 0.0625, build_generator(arrays_of(teacher)), batch)
    with torch.no_grad():
        came = student.eval()(batch.inputs, batch.audio)
    error, change = (came - expected).abs().mean(), expected.std()
    print(f"mean error {error:.5f}, deviation of the output {change:.3f}")
    assert error < 0.02 * change


def test_the_region_holds_what_the_teacher_changes_and_an_edge() -> None:
    rng = np.random.default_rng(0)
    faces = [rng.integers(0, 256, (320, 320, 3), np.uint8) for _ in range(20)]
    # Noise of single pixels is texture that the teacher does not return.
    rests = [np.clip(f + rng.normal(0, 20, f.shape), 0, 255).astype(np.uint8) for f in faces]
    spoken = [rest.copy() for rest in rests]
    assert moved_region(spoken, rests, faces) == WHOLE
    for patch in spoken:
        patch[200:240, 100:180] ^= 0x80
    rows, columns = moved_region(spoken, rests, faces)
    # 16 pixels to fade, the reach of the blur, and then the next multiple of 32.
    assert (rows, columns) == (slice(160, 288), slice(64, 224))
    for patch, rest in zip(spoken, rests, strict=True):
        patch[20:40, 300:310] = 255
        rest[20:40, 300:310] = 255  # silent, but not the frame's
    assert moved_region(spoken, rests, faces) == (slice(0, 288), slice(64, 320))
