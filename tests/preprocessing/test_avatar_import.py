from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lipsync_benchmarks import random_weights
from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar import (
    fill_template,
    prune_versions,
    remove_avatar,
    roll_back,
    update_generator,
)
from lipsync_preprocessing.avatar.faces import cut_face
from lipsync_preprocessing.dataset import read_dataset
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.networks.build import write_audio_encoder
from lipsync_preprocessing.networks.graph_writer import GraphWriter
from lipsync_preprocessing.repository import Repository
from lipsync_preprocessing.repository.configs import PasteOptions
from support.toy_datasets import COUNT, HEIGHT, WIDTH, make_raw, tree


def test_an_avatar_is_three_models(add: Any, repository: Path, run: Any, rng: Any) -> None:
    made = add()
    assert (made.name, made.frames, made.width, made.height) == ("anna", COUNT, WIDTH, HEIGHT)
    assert (made.versions, made.raw, made.missing) == ((1,), False, ())
    store = Repository(repository)
    ensemble, generator, compositor = (
        store.config(n) for n in ("anna", "anna_generator", "anna_compositor")
    )
    assert [ensemble.name, generator.name, compositor.name] == [
        "anna",
        "anna_generator",
        "anna_compositor",
    ]
    steps = [s.model_name for s in ensemble.ensemble_scheduling.step]
    own = ["anna_generator", "anna_compositor"]
    assert set(steps) == {"mel", made.encoder, "audio_window", *own}
    demo_steps = [s.model_name for s in store.config("demo").ensemble_scheduling.step]
    assert [s for s in steps if s in own] == [
        s.replace("demo", "anna") for s in demo_steps if s.startswith("demo")
    ]
    for config in (ensemble, compositor):
        frames = next(o for o in config.output if o.name == "FRAMES")
        assert list(frames.dims) == [-1, HEIGHT, WIDTH, 3]
    parameters = {k: v.string_value for k, v in ensemble.parameters.items()}
    assert parameters["avatar_frames"] == str(COUNT)
    assert (parameters["width"], parameters["height"]) == (str(WIDTH), str(HEIGHT))
    template = store.config("demo")
    changed = {"avatar_frames", "width", "height"}
    assert {k: v for k, v in parameters.items() if k not in changed} == {
        k: v.string_value for k, v in template.parameters.items() if k not in changed
    }
    assert generator.max_batch_size == store.config("demo_generator").max_batch_size
    code = {p.name for p in (repository / "demo_compositor" / "1").glob("*.py")}
    assert {p.name for p in (repository / "anna_compositor" / "1").iterdir()} == code | {
        "frames.npz"
    }
    assert store.model_file("audio_window").is_file()
    patch = run(
        str(store.model_file("anna_generator")),
        loop_index=np.array([[0]]),
        audio=rng.random((1, 32, 16, 16)).astype(np.float32),
    )
    assert patch.shape == (1, 320, 320, 3)
    assert not list(repository.parent.glob(".lipsync*"))


def test_template_stays_as_it_was(add: Any, repository: Path) -> None:
    before = tree(repository)
    add()
    after = tree(repository)
    assert {k: after[k] for k in before} == before


def test_equal_encoders_are_shared_others_get_a_name(
    add: Any, repository: Path, encoder_state: Any, tmp_path: Path
) -> None:
    first = add("anna").encoder
    renamed = tmp_path / "same.onnx"  # equal but for its names and batch
    onnx.save(networks.build_audio_encoder(encoder_state, batch=1, input_name="x"), str(renamed))
    assert add("berta", encoder_path=renamed).encoder == first
    other = tmp_path / "other.onnx"
    state = random_weights.audio_encoder_state(seed=2, width=1 / 4)
    onnx.save(networks.build_audio_encoder(state), str(other))
    second = add("clara", encoder_path=other).encoder
    assert second != first
    config = Repository(repository).config(second)
    assert config.name == second
    assert [i.name for i in config.input] == ["mel"]
    assert remove_avatar(repository, "anna") == ["anna", "anna_compositor", "anna_generator"]
    assert (repository / first).is_dir()  # berta uses it
    assert second in remove_avatar(repository, "clara")
    assert not (repository / second).exists()


def test_the_shared_encoder_is_used_where_it_is_the_same(
    add: Any, repository: Path, encoder_file: Path
) -> None:
    shutil.copy(encoder_file, repository / "audio_encoder" / "1" / "model.onnx")
    assert add().encoder == "audio_encoder"
    assert "audio_encoder" not in remove_avatar(repository, "anna")


def test_raw_network(add: Any, repository: Path, run: Any, rng: Any, generator_state: Any) -> None:
    assert add(raw=True).raw
    store = Repository(repository)
    config = store.config("anna_raw")
    assert [(i.name, list(i.dims)) for i in config.input] == [
        ("input", [6, 320, 320]),
        ("audio", [32, 16, 16]),
    ]
    assert [(o.name, list(o.dims)) for o in config.output] == [("output", [3, 320, 320])]
    assert config.max_batch_size == 32
    assert config.HasField("dynamic_batching")
    assert {n: list(i.dims) for n, i in config.model_warmup[0].inputs.items()} == {
        "input": [6, 320, 320],
        "audio": [32, 16, 16],
    }
    feeds = {
        "input": rng.random((2, 6, 320, 320)).astype(np.float32),
        "audio": rng.random((2, 32, 16, 16)).astype(np.float32),
    }
    came = run(str(store.model_file("anna_raw")), **feeds)
    np.testing.assert_array_equal(came, run(networks.build_generator(generator_state), **feeds))
    assert "anna_raw" in remove_avatar(repository, "anna")


def test_paste_options_become_parameters(add: Any, repository: Path) -> None:
    add("anna", paste=PasteOptions(6, True))
    store = Repository(repository)
    parameters = {k: v.string_value for k, v in store.config("anna_compositor").parameters.items()}
    default = {k: v.string_value for k, v in store.config("demo_compositor").parameters.items()}
    assert parameters == default | {
        "paste_feather_px": "6",
        "paste_colour_match": "1",
    }


def test_removal_takes_the_ensemble_first(
    add: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add()
    rename, moved = Path.rename, []

    def record(self: Path, target: Path) -> Path:
        moved.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", record)
    remove_avatar(repository, "anna")
    assert moved[0] == "anna"
    assert not list(repository.glob("anna*"))
    assert not list(repository.parent.glob(".lipsync*"))


def test_the_last_avatar_stays(repository: Path) -> None:
    with pytest.raises(RepositoryError, match="demo is the last avatar"):
        remove_avatar(repository, "demo")
    with pytest.raises(RepositoryError, match="no avatar 'nobody'; it has: demo"):
        remove_avatar(repository, "nobody")


def test_update_makes_versions(
    add: Any, repository: Path, other_generator_file: Path, raw_dataset: Path, run: Any, rng: Any
) -> None:
    add(raw=True)
    store = Repository(repository)
    assert update_generator(repository, "anna", other_generator_file) == 2
    assert store.avatar("anna").versions == (1, 2)
    assert store.versions("anna_raw") == (1, 2)
    audio = rng.random((1, 32, 16, 16)).astype(np.float32)
    first, second = (
        run(str(store.model_file("anna_generator", v)), loop_index=np.array([[0]]), audio=audio)
        for v in (1, 2)
    )
    assert not np.array_equal(first, second)
    # The new version has the same faces, from the pack: by hand, frame 1 comes at loop_index 0.
    frame = list(read_dataset(raw_dataset).read())[1]
    face = cut_face(frame.image, frame.rect)
    masked = face.copy()
    masked[5:310, 5:315] = 0
    x = np.concatenate([face, masked], axis=2).transpose(2, 0, 1)[None].astype(np.float32) / 255
    output = run(str(other_generator_file), input=x, audio=audio)
    np.testing.assert_array_equal(second[0], (output[0] * 255).astype("u1").transpose(1, 2, 0))
    assert roll_back(repository, "anna") == [2]
    with pytest.raises(RepositoryError, match="older version to go back to, got only 1"):
        roll_back(repository, "anna")
    assert update_generator(repository, "anna", other_generator_file) == 2
    assert prune_versions(repository, "anna") == [1]
    assert store.avatar("anna").versions == (2,)
    assert update_generator(repository, "anna", other_generator_file) == 3


def test_fill_template(
    repository: Path, tmp_path: Path, generator_file: Path, encoder_file: Path
) -> None:
    """The demo after a clone: configs are there, data is not; twice does no harm."""
    store = Repository(repository)
    frames = store.avatar("demo").frames
    dataset = make_raw(tmp_path / "short")
    with pytest.raises(
        RepositoryError, match=rf"expected a dataset of {frames} frames of 1280x720, got 5 of 160"
    ):
        fill_template(repository, "demo", dataset, generator_file, encoder_file)
    for name in ("demo", "demo_compositor"):
        path = repository / name / "config.pbtxt"
        text = path.read_text().replace("720, 1280", f"{HEIGHT}, {WIDTH}")
        for old, new in ((str(frames), COUNT), ("1280", WIDTH), ("720", HEIGHT)):
            text = text.replace(f'string_value: "{old}"', f'string_value: "{new}"')
        path.write_text(text)
    before = {p: p.read_bytes() for p in repository.rglob("*") if p.is_file()}
    for _ in range(2):
        filled = fill_template(repository, "demo", dataset, generator_file, encoder_file)
    assert filled.missing == ()
    assert all(p.read_bytes() == content for p, content in before.items())
    made = {str(p.relative_to(repository)) for p in repository.rglob("*") if p.is_file()}
    assert made - {str(p.relative_to(repository)) for p in before} == {
        "audio_encoder/1/model.onnx",
        "audio_window/1/model.onnx",
        "demo_compositor/1/frames.npz",
        "demo_generator/1/model.onnx",
    }


class _PlainNorms(GraphWriter):
    """Writes batch norms as nodes of their own, as an exporter without folding does."""

    def convolution(self, x: str, name: str, batch_norm: str | None, **options: Any) -> str:
        weight, bias = self.array(f"{name}.weight"), self.array(f"{name}.bias")
        y = self.plain_convolution(
            x, name, weight, bias, options.get("stride", (1, 1)), options.get("pad", 0), False
        )
        entries = [f"{batch_norm}.{e}" for e in ("weight", "bias", "running_mean", "running_var")]
        inputs = [self.constant(f"{e}.c", self.array(e)) for e in entries]
        return self.node("BatchNormalization", [y, *inputs], f"{batch_norm}.out")


def test_two_exports_of_one_encoder_are_one(
    add: Any, encoder_state: Any, tmp_path: Path, run: Any, rng: Any
) -> None:
    """They differ in rounding: by 1e-5 and more where embeddings reach 33, as the trained one's do."""
    state = dict(encoder_state)
    for entry in ("weight", "bias"):
        name = f"audio_encoder.12.conv_block.1.{entry}"
        state[name] = 10 * state[name]
    folded = networks.build_audio_encoder(state)
    writer = _PlainNorms(state)
    writer.node("Flatten", [write_audio_encoder(writer, "mel")], "embedding", axis=1)
    plain = writer.model("audio_encoder", folded.graph.input, folded.graph.output)
    mel = rng.uniform(-4, 4, (64, 1, 80, 16)).astype(np.float32)
    one, other = run(folded, mel=mel), run(plain, mel=mel)
    assert one.max() > 10
    assert np.abs(one - other).max() > 1e-6
    names = []
    for number, model in enumerate((folded, plain)):
        path = tmp_path / f"encoder{number}.onnx"
        onnx.save(model, str(path))
        names.append(add(f"avatar{number}", encoder_path=path).encoder)
    assert names[0] == names[1]
