from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from lipsync_benchmarks import random_weights
from lipsync_preprocessing import networks
from lipsync_preprocessing.errors import CheckpointError

TRUE_SIZE_BYTES = 48_700_250


def macs(width: float) -> int:
    """Multiply-adds a frame, from shape inference over the built graph."""
    model = networks.build_generator(random_weights.generator_state(width), batch=1)
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    weights = {i.name: i.dims for i in graph.initializer}
    return sum(
        int(np.prod(shapes[n.output[0]][2:]) * np.prod(weights[n.input[1]]))
        for n in graph.node
        if n.op_type == "Conv"
    )


@pytest.mark.slow
@pytest.mark.needs_true_size
def test_true_size_has_the_exports_bytes_parameters_and_work() -> None:
    state = random_weights.generator_state(1.0, seed=0)
    parameters = sum(
        a.size for k, a in state.items() if "running" not in k and "num_batches" not in k
    )
    model = networks.build_generator(state)
    assert abs(model.ByteSize() / TRUE_SIZE_BYTES - 1) < 0.01
    assert parameters == pytest.approx(12.19e6, rel=0.005)
    assert macs(1.0) == pytest.approx(4.89e9, rel=0.005)
    onnx.checker.check_model(model, full_check=True)


def test_audio_encoder_has_the_exports_size() -> None:
    state = random_weights.audio_encoder_state(seed=0)
    parameters = sum(
        a.size for k, a in state.items() if "running" not in k and "num_batches" not in k
    )
    assert parameters == pytest.approx(2.81e6, rel=0.005)
    assert networks.build_audio_encoder(state).ByteSize() == pytest.approx(11.2e6, rel=0.01)


def test_opset_and_ir_version(generator_state: dict[str, Any]) -> None:
    model = networks.build_generator(generator_state)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8


def test_random_weights_cover_the_range_and_hear_the_audio(
    generator_state: dict[str, Any], encoder_state: dict[str, Any], run: Any, rng: Any
) -> None:
    """A pure tone, noise and silence must give mouths several grey levels apart."""
    encoder = networks.build_audio_encoder(encoder_state)
    generator = networks.build_generator(generator_state)
    silence = np.full((16, 1, 80, 16), -4, np.float32)
    tone = silence.copy()
    tone[:, :, 20:24] = 1
    noise = rng.uniform(-1, 1, silence.shape).astype(np.float32)
    face = rng.random((1, 6, 320, 320)).astype(np.float32)
    frames = []
    for mel in (silence, tone, noise):
        audio = run(encoder, mel=mel).reshape(1, 32, 16, 16)
        frames.append(run(generator, input=face, audio=audio) * 255)
    assert np.quantile(frames[0], 0.02) < 40
    assert np.quantile(frames[0], 0.98) > 215
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(frames[a] - frames[b]).mean() > 5


def test_same_seed_same_weights_other_seed_others() -> None:
    first, again, other = (random_weights.generator_state(1 / 16, s) for s in (3, 3, 4))
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["outc.conv.weight"], other["outc.conv.weight"])


def test_batch_norms_are_folded_and_not_trivial(
    generator_state: dict[str, Any], run: Any, rng: Any
) -> None:
    """Dropping one running mean must change the output: the norms are really in the graph."""
    name = "up5.conv.double_conv.1.conv.7.running_mean"
    assert np.abs(generator_state[name]).max() > 0.01
    face = rng.random((1, 6, 320, 320)).astype(np.float32)
    audio = rng.random((1, 32, 16, 16)).astype(np.float32)
    outputs = [
        run(networks.build_generator(s), input=face, audio=audio)
        for s in (generator_state, {**generator_state, name: generator_state[name] + 1})
    ]
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01


def test_missing_array_is_named(generator_state: dict[str, Any]) -> None:
    state = {k: v for k, v in generator_state.items() if k != "inc.inconv.0.conv.0.weight"}
    with pytest.raises(CheckpointError, match=r"inc\.inconv\.0\.conv\.0\.weight"):
        networks.build_generator(state)


def test_too_narrow_is_refused() -> None:
    with pytest.raises(ValueError, match="width"):
        random_weights.generator_state(1 / 64)
