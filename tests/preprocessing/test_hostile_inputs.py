"""Inputs that would hang an import, fill the memory, crash it or write to the terminal."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar.trial import try_avatar
from lipsync_preprocessing.cli import main
from lipsync_preprocessing.dataset import read_dataset
from lipsync_preprocessing.errors import AvatarError, DatasetError, ModelError, printable
from lipsync_preprocessing.graphs.networks import prepare_generator
from lipsync_preprocessing.graphs.onnx_files import load_onnx
from lipsync_preprocessing.graphs.sources import load_generator
from lipsync_preprocessing.graphs.trial_run import run_model
from support.toy_datasets import make_packaged, make_raw

pytestmark = pytest.mark.timeout(60)


def read_all(directory: Path) -> None:
    list(read_dataset(directory).read())


@pytest.mark.parametrize("name", ["full_body_img/2.jpg", "landmarks/2.lms", "parsing/2.png"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [("pipe", "got a named pipe"), ("device", "got a device"), ("folder", "got a folder")],
)
def test_only_regular_files_are_read(name: str, kind: str, message: str, tmp_path: Path) -> None:
    directory = make_raw(tmp_path / "d", masks=True)
    path = directory / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(DatasetError, match=rf"{path.name}: expected a regular file, {message}"):
        read_all(directory)


@pytest.mark.parametrize("name", ["full_body_video.mp4", "crop_rectangles.json"])
def test_a_pipe_in_a_package(name: str, tmp_path: Path) -> None:
    directory = make_packaged(tmp_path / "d", videos=True)
    (directory / name).unlink()
    os.mkfifo(directory / name)
    with pytest.raises(DatasetError, match="expected a regular file, got a named pipe"):
        read_all(directory)


def test_a_pipe_as_a_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "99.onnx")
    with pytest.raises(ModelError, match="got a named pipe"):
        load_generator(tmp_path / "99.onnx")


def test_a_small_jpeg_of_many_pixels(raw_dataset: Path) -> None:
    """The header is changed: the size is refused before a pixel is decoded."""
    path = raw_dataset / "full_body_img/2.jpg"
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 30000, 30000)
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="expected at most 31 megapixels, got 30000x30000"):
        read_all(raw_dataset)


def test_a_small_png_of_many_pixels(tmp_path: Path) -> None:
    directory = make_raw(tmp_path / "d", masks=True)
    path = directory / "parsing/2.png"
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60000, 60000)
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="megapixels, got 60000x60000"):
        read_all(directory)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "[" * 900 + "]" * 900])
def test_numbers_that_are_none(value: str, tmp_path: Path) -> None:
    directory = make_packaged(tmp_path / "d", videos=False)
    path = directory / "crop_rectangles.json"
    entries = json.loads(path.read_text())
    entries["3"] = {"rect": [1, 2, 3, "HERE"]}
    path.write_text(json.dumps(entries).replace('"HERE"', value))
    with pytest.raises(DatasetError, match=r"crop_rectangles\.json: ('3': )?expected") as raised:
        read_all(directory)
    assert len(str(raised.value)) < len(str(path)) + 200


def test_json_that_is_nested_deeply(tmp_path: Path) -> None:
    directory = make_packaged(tmp_path / "d", videos=False)
    (directory / "crop_rectangles.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(DatasetError, match="nested too deeply"):
        read_all(directory)


def test_a_playlist_as_a_video(tmp_path: Path) -> None:
    """FFmpeg would follow it to other files."""
    directory = make_packaged(tmp_path / "d", videos=True)
    (directory / "full_body_video.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    with pytest.raises(DatasetError, match="expected a video, but it cannot be decoded"):
        read_all(directory)


def with_first_nodes(generator_state: Any, nodes: list[onnx.NodeProto], output: str) -> Any:
    """Return a toy generator that takes its audio through other nodes."""
    model = networks.build_generator(generator_state)
    first = next(n for n in model.graph.node if "audio" in n.input)
    first.input[list(first.input).index("audio")] = output
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in (*nodes, *model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    truth = numpy_helper.from_array(np.array(True), "truth")
    model.graph.initializer.append(truth)
    return model


def audio(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 32, 16, 16])


def endless_loop() -> onnx.NodeProto:
    scalars = [("n", TensorProto.INT64), ("go", TensorProto.BOOL), ("on", TensorProto.BOOL)]
    number, go, still = (helper.make_tensor_value_info(n, kind, []) for n, kind in scalars)
    nodes = [
        helper.make_node("Identity", ["go"], ["on"]),
        helper.make_node("Identity", ["before"], ["after"]),
    ]
    body = helper.make_graph(nodes, "body", [number, go, audio("before")], [still, audio("after")])
    return helper.make_node("Loop", ["", "truth", "audio"], ["looped"], body=body)


def branch() -> onnx.NodeProto:
    branches: dict[str, Any] = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Identity", ["audio"], [name])], name, [], [audio(name)]
        )
        for name in ("then", "else")
    }
    return helper.make_node("If", ["truth"], ["looped"], **branches)


@pytest.mark.parametrize(("node", "op"), [(endless_loop(), "Loop"), (branch(), "If")])
def test_control_flow_is_refused(
    node: onnx.NodeProto, op: str, generator_state: Any, tmp_path: Path
) -> None:
    model = with_first_nodes(generator_state, [node], "looped")
    onnx.save(model, str(tmp_path / "99.onnx"))
    with pytest.raises(ModelError, match=f"99.onnx: expected .* without control flow.*'{op}'"):
        load_generator(tmp_path / "99.onnx")


def test_a_trial_run_has_a_limit_of_time(generator_state: Any) -> None:
    model = with_first_nodes(generator_state, [endless_loop()], "looped")
    feeds = {
        "input": np.zeros((1, 6, 320, 320), np.float32),
        "audio": np.zeros((1, 32, 16, 16), np.float32),
    }
    with pytest.raises(ModelError, match=r"expected a network that runs within 0.5 s"):
        run_model(model, feeds, timeout_s=0.5)


@pytest.mark.parametrize("location", ["../secret", "pipe"])
def test_external_data_stays_in_the_folder(
    location: str, generator_state: Any, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(bytes(100))
    folder = tmp_path / "models"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    model = networks.build_generator(generator_state)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "99.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"99.onnx: expected a valid ONNX|got a named pipe"):
        load_onnx(folder / "99.onnx")


@pytest.mark.parametrize(("opset", "ir_version"), [(22, 10), (23, 11), (25, 12)])
def test_newer_versions_are_converted_down(
    opset: int, ir_version: int, generator_state: Any, run: Any, rng: Any
) -> None:
    """Release 24.10's native backend would refuse them, and with them the whole server would stop."""
    plain = networks.build_generator(generator_state, batch=1)
    newer = onnx.version_converter.convert_version(plain, opset)
    newer.ir_version = ir_version
    generator = prepare_generator(newer)
    assert [(o.domain, o.version) for o in generator.model.opset_import] == [("", 21)]
    assert generator.model.ir_version == 10
    feeds = {
        "input": rng.random((1, 6, 320, 320)).astype(np.float32),
        "audio": rng.random((1, 32, 16, 16)).astype(np.float32),
    }
    np.testing.assert_allclose(run(generator.model, **feeds), run(plain, **feeds), atol=1e-6)


def test_a_version_that_cannot_be_converted_names_the_release(generator_state: Any) -> None:
    model = networks.build_generator(generator_state)
    model.opset_import[0].version = 99
    with pytest.raises(ModelError, match=r"opset 21 at most, the newest that Triton 24\.10 loads"):
        prepare_generator(model)


def test_check_names_a_model_that_a_native_server_refuses(anna: Path) -> None:
    """Put there by hand; the embedded server would load it."""
    path = anna / "anna_generator/1/model.onnx"
    model = onnx.load(str(path))
    model.ir_version = 11
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=r"model.onnx: expected ONNX IR version 10 at most.*24.10"):
        try_avatar(anna, "anna")


def test_control_characters_do_not_reach_the_terminal(repository: Path, tmp_path: Path) -> None:
    assert printable("a\x1b]0;title\x07b\u202ec\nd\udc80é") == (
        r"a\x1b]0;title\x07b\u202ec\nd\udc80é"
    )
    dataset = make_raw(tmp_path / "evil\x1b[2J\nname")
    (dataset / "full_body_img/3.jpg").write_bytes(b"text")
    files = [tmp_path / name for name in ("99.onnx", "encoder.onnx")]
    options = ["--dataset", dataset, "--generator", files[0], "--audio-encoder", files[1]]
    result = CliRunner().invoke(
        main, ["add", "anna", *map(str, options), "--repository", str(repository)]
    )
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit | AvatarError)
    assert "\x1b" not in result.stderr
    assert len(result.stderr.splitlines()) == 2  # where the repository is, and the error
