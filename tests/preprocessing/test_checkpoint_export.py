from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lipsync_benchmarks import random_weights
from lipsync_preprocessing.errors import CheckpointError
from lipsync_preprocessing.networks import checkpoint
from lipsync_preprocessing.networks import torch_networks as reference


def tensors(state: dict[str, Any]) -> dict[str, Any]:
    return {k: torch.from_numpy(np.array(v)) for k, v in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("width", [1.0, 0.5, 1 / 16])
def test_generator_equals_torch(width: float, tmp_path: Path, run: Any, rng: Any) -> None:
    state = random_weights.generator_state(width, seed=5)
    # Random weights amplify rounding more than trained ones: torch's own float32 is 2e-5 off its
    # float64. A gentler last layer lets 1e-5 measure the export instead.
    state["outc.conv.weight"] *= np.float32(0.2)
    network = reference.TorchGenerator(width)
    network.load_state_dict(tensors(state))  # strict: the names are the checkpoint's
    network.eval()
    path = tmp_path / "99.pth"
    torch.save(network.state_dict(), path)
    face = rng.random((2, 6, 320, 320)).astype(np.float32)
    audio = rng.random((2, 32, 16, 16)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(face), torch.from_numpy(audio)).numpy()
    model = checkpoint.export_generator(path)
    came = run(model, input=face, audio=audio)
    assert expected.std() > 0.03
    np.testing.assert_allclose(came, expected, rtol=0, atol=1e-5)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("prefix", ["", "audio_encoder."])
def test_audio_encoder_equals_torch(prefix: str, tmp_path: Path, run: Any, rng: Any) -> None:
    """The pretrained file's names lack the prefix that the class gives them."""
    state = random_weights.audio_encoder_state(seed=5)
    network = reference.TorchAudioEncoder()
    network.load_state_dict(tensors(state))
    network.eval()
    path = tmp_path / "audio_visual_encoder.pth"
    saved = {prefix + k.removeprefix("audio_encoder."): v for k, v in tensors(state).items()}
    torch.save(saved, path)
    mel = rng.uniform(-4, 4, (5, 1, 80, 16)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(mel)).numpy()
    came = run(checkpoint.export_audio_encoder(path), mel=mel)
    assert expected.std() > 0.3
    # Embeddings have no range of their own: 1e-5 of the largest.
    np.testing.assert_allclose(came, expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize("how", ["nested", "parallel", "compiled", "half"])
def test_training_checkpoints(how: str, generator_state: Any, tmp_path: Path) -> None:
    state = tensors(generator_state)
    wrapped: Any = {
        "nested": {"epoch": 99, "optimizer": {"state": {}}, "state_dict": state},
        "parallel": {"module." + k: v for k, v in state.items()},
        "compiled": {"net": {"model": {"_orig_mod." + k: v for k, v in state.items()}}},
        "half": {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    }[how]
    torch.save(wrapped, tmp_path / "99.pth")
    came = checkpoint.load_generator_state(tmp_path / "99.pth")
    assert came.keys() == generator_state.keys()
    tolerance = 1e-2 if how == "half" else 0
    for name, array in generator_state.items():
        np.testing.assert_allclose(came[name], array, rtol=tolerance, atol=tolerance)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("as_torch", [True, False])
def test_hostile_file_runs_no_code(as_torch: bool, tmp_path: Path) -> None:
    path, marker = tmp_path / "99.pth", tmp_path / "it ran"
    content = {"inc.inconv.0.conv.6.weight": torch.zeros(32, 64, 1, 1), "x": Hostile(marker)}
    if as_torch:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match="not loaded"):
        checkpoint.load_generator_state(path)
    assert not marker.exists()
    with path.open("rb") as file:  # the file is what it claims: another reader falls for it
        if not as_torch:
            pickle.load(file)
            assert marker.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("up3.conv.double_conv.0.conv.0.weight"), "up3.conv.*missing"),
        (lambda s: s.update({"up3.extra": np.zeros(1)}), "up3.extra too"),
        (
            lambda s: s.update({"outc.conv.weight": np.zeros((4, 1, 1, 1))}),
            r"outc.conv.weight \[3, 1, 1, 1\], got \[4, 1, 1, 1\]",
        ),
        (
            lambda s: s.update({"audio_model.conv1.conv.0.weight": np.zeros((8, 256, 1, 1))}),
            "'ave' audio mode.*got one with 256",
        ),
        (lambda s: s["outc.conv.bias"].fill(np.nan), "finite"),
        (lambda s: s.pop("inc.inconv.0.conv.6.weight"), "expected a generator's state dict"),
    ],
)
def test_other_networks_are_refused(
    change: Any, message: str, generator_state: Any, tmp_path: Path
) -> None:
    state = {k: v.copy() for k, v in generator_state.items()}
    change(state)
    torch.save(tensors(state), tmp_path / "99.pth")
    with pytest.raises(CheckpointError, match=message) as raised:
        checkpoint.load_generator_state(tmp_path / "99.pth")
    assert str(raised.value).startswith(str(tmp_path / "99.pth"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)])
def test_no_checkpoint_at_all(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "99.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"99\.pth: expected a checkpoint"):
        checkpoint.load_generator_state(path)
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoint.load_generator_state(tmp_path / "98.pth")
