from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lipsync_preprocessing import networks
from lipsync_preprocessing.errors import ModelError
from lipsync_preprocessing.graphs import compile as compiling
from lipsync_preprocessing.graphs.networks import (
    Generator,
    audio_window_model,
    prepare_audio_encoder,
    prepare_generator,
)
from lipsync_preprocessing.graphs.ports import Port, Ports
from lipsync_preprocessing.graphs.symbolic_batch import with_symbolic_batch

LOOP_INDICES = [-100, -7, -1, 0, 1, 2, 3, 4, 5, 9, 1000]


def frame_at(i: int, count: int) -> int:
    """The contract's ping-pong, written out here a second time."""
    period = 2 * (count - 1)
    if period == 0:
        return 0
    p = (i + 1) % period
    return p if p <= count - 1 else period - p


def by_hand(run: Any, state: Any, faces: Any, loop_indices: list[int], audio: Any) -> Any:
    """99.onnx run on arrays made with numpy."""
    face = faces[[frame_at(i, len(faces)) for i in loop_indices]]
    masked = face.copy()
    masked[:, 5:310, 5:315] = 0
    x = np.concatenate([face, masked], axis=-1).transpose(0, 3, 1, 2).astype(np.float32) / 255
    y = run(networks.build_generator(state), input=x, audio=audio)
    return (y * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def make_faces(rng: Any, count: int) -> Any:
    return rng.integers(0, 256, (count, 320, 320, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("count", "batch", "names"),
    [
        (5, None, ("input", "audio")),
        (1, 1, ("visual_input", "audio_input")),
        (2, 1, ("patch", "loop_index")),  # the compiled graph's own names
        (4, 3, ("audio", "input")),
    ],
)
def test_equals_the_network_run_by_hand(
    count: int, batch: int | None, names: Any, generator_state: Any, run: Any, rng: Any
) -> None:
    faces = make_faces(rng, count)
    generator = networks.build_generator(generator_state, batch=batch, input_names=names)
    model = compiling.compile_generator(prepare_generator(generator), faces)
    audio = rng.random((len(LOOP_INDICES), 32, 16, 16)).astype(np.float32)
    came = run(model, loop_index=np.array(LOOP_INDICES)[:, None], audio=audio)
    expected = by_hand(run, generator_state, faces, LOOP_INDICES, audio)
    np.testing.assert_array_equal(came, expected)
    one = run(model, loop_index=np.array(LOOP_INDICES[:1])[:, None], audio=audio[:1])
    np.testing.assert_array_equal(one, expected[:1])


@pytest.mark.parametrize(
    "at",
    [
        (slice(160, 320), slice(0, 320)),  # all but the upper half: only rows above it stay
        (slice(96, 256), slice(64, 320)),
        (slice(128, 288), slice(32, 256)),
        (slice(0, 128), slice(160, 320)),
    ],
)
def test_a_part_of_the_face_fades_into_the_frame(
    at: Any, generator_state: Any, run: Any, rng: Any
) -> None:
    faces = make_faces(rng, 4)
    network = networks.build_generator(generator_state, at=at)
    generator = Generator(network, "input", "audio", "output", at)
    model = compiling.compile_generator(generator, faces)
    onnx.checker.check_model(model, full_check=True)
    indices = [0, 1, 2, 3, 9]
    audio = rng.random((len(indices), 32, 16, 16)).astype(np.float32)
    came = run(model, loop_index=np.array(indices)[:, None], audio=audio)
    face = faces[[frame_at(i, len(faces)) for i in indices]]
    masked = face.copy()
    masked[:, 5:310, 5:315] = 0
    x = np.concatenate([face, masked], axis=-1).transpose(0, 3, 1, 2).astype(np.float32) / 255
    y = run(network, input=np.ascontiguousarray(x[:, :, at[0], at[1]]), audio=audio)
    painted = (y * 255).transpose(0, 2, 3, 1)
    outside = np.ones((320, 320), bool)
    outside[at] = False
    np.testing.assert_array_equal(came[:, outside], face[:, outside])
    # By how much each pixel is painted, written out again: a half cosine over 16 pixels.
    weight = np.ones((320, 320))
    for n in range(16):
        rise = 0.5 - 0.5 * np.cos(np.pi * (n + 0.5) / 16)
        for axis, part in enumerate(at):
            lines = weight if axis == 0 else weight.T
            if part.start > 0:
                lines[part.start + n] *= rise
            if part.stop < 320:
                lines[part.stop - 1 - n] *= rise
    expected = weight[at][..., None] * painted + (1 - weight[at])[..., None] * (
        face[:, at[0], at[1]] + 0.5
    )
    difference = np.abs(came[:, at[0], at[1]].astype(int) - expected.astype(np.uint8))
    assert difference.max() <= 1  # a sum rounded in another order
    assert (difference == 0).mean() > 0.999


def test_the_audio_reaches_a_part_of_the_face_as_it_does_the_whole(
    generator_state: Any, run: Any, rng: Any
) -> None:
    """A network without any neighbourhood would return the same; this one does far from the part's edge."""
    whole = networks.build_generator(generator_state)
    at = (slice(64, 320), slice(32, 320))
    part = networks.build_generator(generator_state, at=at)
    x = rng.random((2, 6, 320, 320)).astype(np.float32)
    audio = rng.random((2, 32, 16, 16)).astype(np.float32)
    one = run(whole, input=x, audio=audio)[:, :, at[0], at[1]]
    other = run(part, input=np.ascontiguousarray(x[:, :, at[0], at[1]]), audio=audio)
    rolled = run(part, input=np.ascontiguousarray(x[:, :, at[0], at[1]]), audio=audio[::-1].copy())
    inner = (..., slice(96, -32), slice(96, -32))
    near, far = (float(np.abs(one - y)[inner].mean()) for y in (other, rolled))
    print(f"mean difference {near:.5f}, with the other frame's audio {far:.5f}")
    assert near < 0.5 * far


def test_ports_are_static_but_for_the_batch(generator_state: Any, rng: Any) -> None:
    model = compiling.compile_generator(
        prepare_generator(networks.build_generator(generator_state, batch=1)), make_faces(rng, 3)
    )
    onnx.checker.check_model(model, full_check=True)
    ports = {
        v.name: (v.type.tensor_type.elem_type, [d.dim_value or d.dim_param for d in dims(v)])
        for v in (*model.graph.input, *model.graph.output)
    }
    assert ports == {
        "loop_index": (TensorProto.INT64, ["batch", 1]),
        "audio": (TensorProto.FLOAT, ["batch", 32, 16, 16]),
        "patch": (TensorProto.UINT8, ["batch", 320, 320, 3]),
    }
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8


def dims(value: Any) -> Any:
    return value.type.tensor_type.shape.dim


@pytest.mark.parametrize("opset", [11, 12, 13, 20])
def test_keeps_the_networks_own_opset(opset: int, generator_state: Any, run: Any, rng: Any) -> None:
    generator = networks.build_generator(generator_state)
    generator.opset_import[0].version = opset  # all operators used exist from 11 on
    generator.graph.initializer.append(numpy_helper.from_array(np.empty(0, np.float32), "roi"))
    for node in generator.graph.node:
        if node.op_type == "Resize":
            node.input[1] = "roi"  # not optional before 13
    generator.ir_version = 9 if opset == 20 else 6
    faces = make_faces(rng, 3)
    model = compiling.compile_generator(prepare_generator(generator), faces)
    assert model.opset_import[0].version == opset
    assert model.ir_version == (9 if opset == 20 else 8)
    audio = rng.random((2, 32, 16, 16)).astype(np.float32)
    came = run(model, loop_index=np.array([[0], [3]]), audio=audio).astype(int)
    # ONNX Runtime may fuse another opset's graph in another way, and round the last bit elsewhere.
    difference = np.abs(came - by_hand(run, generator_state, faces, [0, 3], audio))
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


def test_batch_baked_into_reshape_and_resize_is_freed(
    generator_state: Any, run: Any, rng: Any
) -> None:
    """As some exporters write it: Resize to sizes, Reshape to constants, both with a batch of 1."""
    generator = networks.build_generator(generator_state, batch=1)
    graph = generator.graph
    side = 10
    for node in graph.node:
        if node.op_type == "Resize":
            side *= 2
            channels = {20: 16, 40: 8, 80: 4, 160: 2, 320: 2}[side]
            name = f"sizes_{side}"
            sizes = numpy_helper.from_array(np.array([1, channels, side, side]), name)
            graph.initializer.append(sizes)
            node.input[:] = [node.input[0], "", "", name]
    first = next(n for n in graph.node if "audio" in n.input)
    first.input[0] = "again"
    flat = numpy_helper.from_array(np.array([1, 32, 256]), "flat")
    full = helper.make_node(
        "Constant", [], ["full"], value=numpy_helper.from_array(np.array([1, 32, 16, 16]))
    )
    graph.initializer.append(flat)
    nodes = [
        full,
        helper.make_node("Reshape", ["audio", "flat"], ["folded"]),
        helper.make_node("Reshape", ["folded", "full"], ["again"]),
        *graph.node,
    ]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    faces = make_faces(rng, 3)
    audio = rng.random((3, 32, 16, 16)).astype(np.float32)
    model = compiling.compile_generator(prepare_generator(generator), faces)
    came = run(model, loop_index=np.array([[0], [1], [2]]), audio=audio)
    expected = by_hand(run, generator_state, faces, [0, 1, 2], audio)
    np.testing.assert_array_equal(came, expected)


def test_resize_by_a_fraction_is_freed(run: Any, rng: Any) -> None:
    """Sizes that are no whole multiple of the input's are computed from its batch."""
    sizes = numpy_helper.from_array(np.array([1, 3, 320, 320]), "sizes")
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear")
    ports = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, side, side])
        for n, side in (("x", 200), ("y", 320))
    ]
    graph = helper.make_graph([node], "resize", ports[:1], ports[1:], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x, y = (Port(n, TensorProto.FLOAT, (1, 3, s, s)) for n, s in (("x", 200), ("y", 320)))
    free = with_symbolic_batch(model, Ports((x,), y, 1))
    images = rng.random((3, 3, 200, 200)).astype(np.float32)
    expected = np.concatenate([run(model, x=i[None]) for i in images])
    np.testing.assert_allclose(run(free, x=images), expected, atol=1e-6)


def test_batch_that_cannot_be_freed_is_refused(generator_state: Any) -> None:
    generator = networks.build_generator(generator_state, batch=1)
    first = next(n for n in generator.graph.node if "audio" in n.input)
    position = list(generator.graph.node).index(first)
    first.input[0] = "joined"
    constant = numpy_helper.from_array(np.zeros((1, 16, 16, 16), np.float32), "extra")
    ends = [numpy_helper.from_array(np.array([n]), f"end{n}") for n in (0, 16, 1)]
    generator.graph.initializer.extend([constant, *ends])
    cut = helper.make_node("Slice", ["audio", "end0", "end16", "end1"], ["half"])
    join = helper.make_node("Concat", ["half", "extra"], ["joined"], axis=1)
    generator.graph.node.insert(position, join)
    generator.graph.node.insert(position, cut)
    with pytest.raises(ModelError, match=r"batch is fixed at 1.*dynamic batch"):
        prepare_generator(generator)


def test_many_faces_lie_beside_the_graph(
    tmp_path: Path, generator_state: Any, run: Any, rng: Any
) -> None:
    """Above the limit of a protobuf: a folder model.onnx/ with external data, equal results."""
    generator = prepare_generator(networks.build_generator(generator_state))
    faces = make_faces(rng, 4)
    inline, folder = tmp_path / "a.onnx", tmp_path / "model.onnx"
    compiling.write_compiled_generator(generator, faces, inline)
    compiling.write_compiled_generator(generator, faces, folder, inline_limit_bytes=1000)
    assert inline.is_file()
    assert sorted(p.name for p in folder.iterdir()) == ["faces.bin", "model.onnx"]
    assert (folder / "model.onnx").stat().st_size < generator.model.ByteSize() + 500_000
    feeds = {
        "loop_index": np.array([[0], [7]]),
        "audio": rng.random((2, 32, 16, 16)).astype(np.float32),
    }
    np.testing.assert_array_equal(
        run(str(folder / "model.onnx"), **feeds), run(str(inline), **feeds)
    )


def test_more_than_a_protobuf_holds_is_refused_inline(generator_state: Any) -> None:
    faces = np.broadcast_to(np.uint8(0), (7500, 320, 320, 3))  # 2.3 GB, none of it in memory
    with pytest.raises(ModelError, match="write_compiled_generator"):
        compiling.compile_generator(
            prepare_generator(networks.build_generator(generator_state)), faces
        )


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        (np.zeros((2, 328, 328, 3), np.uint8), r"expected uint8 \[K,320,320,3\]"),
        (np.zeros((2, 320, 320, 3), np.float32), "got float32"),
        (np.zeros((0, 320, 320, 3), np.uint8), "at least one"),
    ],
)
def test_wrong_faces_are_refused(faces: Any, message: str, generator_state: Any) -> None:
    with pytest.raises(ModelError, match=message):
        compiling.compile_generator(
            prepare_generator(networks.build_generator(generator_state)), faces
        )


def test_another_network_is_refused(encoder_state: Any) -> None:
    with pytest.raises(ModelError, match=r"\[batch,6,320,320\].*mel float \[\?,1,80,16\]"):
        prepare_generator(networks.build_audio_encoder(encoder_state))


@pytest.mark.parametrize("batch", [None, 1])
def test_audio_encoder_is_normalised(
    batch: int | None, encoder_state: Any, run: Any, rng: Any
) -> None:
    export = networks.build_audio_encoder(
        encoder_state, batch=batch, input_name="embedding", output_name="out"
    )
    model = prepare_audio_encoder(export)
    onnx.checker.check_model(model, full_check=True)
    mel = rng.uniform(-4, 4, (5, 1, 80, 16)).astype(np.float32)
    came = run(model, mel=mel)
    expected = run(networks.build_audio_encoder(encoder_state), mel=mel)
    np.testing.assert_array_equal(came, expected)
    assert [v.name for v in (*model.graph.input, *model.graph.output)] == ["mel", "embedding"]
    assert [d.dim_value or d.dim_param for d in dims(model.graph.output[0])] == ["batch", 512]


def test_audio_window_gathers_rows_and_zeros(run: Any, rng: Any) -> None:
    model = audio_window_model()
    onnx.checker.check_model(model, full_check=True)
    embedding = rng.random((3, 512)).astype(np.float32)
    index = np.array([[-1] * 8 + [0, 1, 2, 2, 1, 0, -1, -1], [2] * 16, [-1] * 16])
    came = run(model, embedding=embedding, index=index)
    rows = np.zeros((3, 16, 512), np.float32)
    rows[index >= 0] = embedding[index[index >= 0]]
    np.testing.assert_array_equal(came, rows.reshape(3, 32, 16, 16))


def test_networks_of_different_weights_share_no_name(generator_state: Any, rng: Any) -> None:
    """ONNX Runtime takes graphs of equal names for one TensorRT engine, whatever their weights are."""
    faces = make_faces(rng, 1)
    other = {name: array + 1 for name, array in generator_state.items()}
    names = []
    for state in (generator_state, other, generator_state):
        generator = prepare_generator(networks.build_generator(state))
        model = compiling.compile_generator(generator, faces)
        names.append({o for node in model.graph.node for o in node.output if "network" in o})
    assert names[0].isdisjoint(names[1])
    assert names[0] == names[2]
    assert len(names[0]) > 100
