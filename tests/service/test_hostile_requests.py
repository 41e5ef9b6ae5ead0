"""Requests no client of ours would send: extremes, wrong shapes and types, lies about sizes.

Each is refused with what was expected and what came, and a good request right after it gets its frames from
the same processes.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from lipsync_embedded import Server
from support.decoded_frames import assert_same_frames
from support.triton_calls import NUMBERS, PROTOCOLS, Triton, processes, speech

WAVE = speech(0.4)
LOWEST, HIGHEST = -(2**63), 2**63 - 1
INVALID = ("StatusCode.INVALID_ARGUMENT", "400")


@pytest.fixture(scope="module")
def good_frames(oracles: dict[str, Any]) -> list[NDArray[Any]]:
    return oracles["toy"].render(WAVE)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def unharmed(server: Server, good_frames: list[NDArray[Any]]) -> Iterator[None]:
    before = processes(server)
    yield
    assert processes(server) == before
    assert_same_frames(Triton(server, "grpc").frames("toy", WAVE), good_frames)


def refusal(server: Server, protocol: str, tensors: dict[str, NDArray[Any]], **how: Any) -> str:
    """The message of a refused request."""
    model, outputs = how.get("model", "toy"), how.get("outputs", ["JPEG"])
    with pytest.raises(InferenceServerException) as failure:
        Triton(server, protocol).infer(model, tensors, outputs, how.get("parameters"))
    assert failure.value.status() in how.get("status", INVALID)
    return str(failure.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NUMBERS.values())
def test_every_number_at_its_extremes(server: Server, protocol: str, name: str) -> None:
    for value in (LOWEST, HIGHEST, LOWEST + 1, HIGHEST - 1):
        message = refusal(server, protocol, {"AUDIO": WAVE, name: np.array([value])})
        assert str(value) in message or (name == "FRAME_COUNT" and "has 9 " in message)
        assert name in message or "frames" in message


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NUMBERS.values())
def test_every_number_in_a_wrong_form(server: Server, protocol: str, name: str) -> None:
    for dtype, word in ((np.int32, "INT32"), (np.float32, "FP32"), (np.uint64, "UINT64")):
        message = refusal(server, protocol, {"AUDIO": WAVE, name: np.ones(1, dtype)})
        assert f"data-type is '{word}'" in message
        assert "expects 'INT64'" in message
    for shape, came in (((2,), "[2]"), ((0,), "[0]"), ((1, 1), "[1,1]")):
        message = refusal(server, protocol, {"AUDIO": WAVE, name: np.ones(shape, np.int64)})
        assert f"Expected [1], got {came}" in message


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ((WAVE * 32767).astype(np.int16), "data-type is 'INT16', but model 'toy' expects 'FP32'"),
        (WAVE.astype(np.float64), "data-type is 'FP64', but model 'toy' expects 'FP32'"),
        (WAVE.astype(np.float16), "data-type is 'FP16', but model 'toy' expects 'FP32'"),
        (np.array([b"RIFF"], object), "data-type is 'BYTES', but model 'toy' expects 'FP32'"),
        (WAVE[None], "Expected [-1], got [1,6400]"),
        (np.stack([WAVE, WAVE], 1), "Expected [-1], got [6400,2]"),
    ],
)
def test_audio_in_a_wrong_form(
    server: Server, protocol: str, audio: NDArray[Any], message: str
) -> None:
    assert message in refusal(server, protocol, {"AUDIO": audio})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_nobody_knows(server: Server, protocol: str) -> None:
    assert "unexpected inference input 'SOUND'" in refusal(
        server, protocol, {"AUDIO": WAVE, "SOUND": WAVE}
    )
    assert "unexpected inference output 'PNG'" in refusal(
        server, protocol, {"AUDIO": WAVE}, outputs=["PNG"]
    )
    unknown = {"model": "nobody", "status": ("StatusCode.NOT_FOUND", "404")}
    assert "'nobody'" in refusal(server, protocol, {"AUDIO": WAVE}, **unknown)
    refusal(server, protocol, {"FRAME_COUNT": np.ones(1, np.int64)})  # no AUDIO at all


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"crf": -1}, "crf must be an integer from 0 to 51, got -1"),
        ({"crf": 2**62}, "crf must be an integer from 0 to 51, got 4611686018427387904"),
        ({"crf": 20.5}, "crf must be an integer from 0 to 51, got 20.5"),
        ({"crf": True}, "crf must be an integer from 0 to 51, got True"),
        ({"crf": "20:bframes=3"}, "got '20:bframes=3'"),
        ({"preset": "medium:bframes=3"}, "got 'medium:bframes=3'"),
        ({"preset": 3}, "preset must be one of ultrafast, superfast"),
        ({"preset": ""}, "preset must be one of ultrafast, superfast"),
        ({"jpeg_quality": 0}, "jpeg_quality must be an integer from 1 to 100, got 0"),
        ({"jpeg_quality": 101}, "jpeg_quality must be an integer from 1 to 100, got 101"),
        ({"jpeg_quality": ""}, "jpeg_quality must be an integer from 1 to 100, got ''"),
    ],
)
def test_encoder_options(
    server: Server, protocol: str, parameters: dict[str, Any], message: str
) -> None:
    one = {"AUDIO": WAVE, "FRAME_COUNT": np.ones(1, np.int64)}
    for output in ("H264", "JPEG", "FRAMES"):  # a wrong option is wrong, needed or not
        came = refusal(server, protocol, one, outputs=[output], parameters=parameters)
        assert message in came


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scale", [1e38, 1e-40, 1e6])
def test_finite_samples_of_any_size_are_sound(
    server: Server, oracles: dict[str, Any], protocol: str, scale: float
) -> None:
    wave = WAVE * np.float32(scale)
    frames = Triton(server, protocol).frames("toy", wave, first=4, count=2)
    assert_same_frames(frames, oracles["toy"].render(wave)[4:6])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_frames_of_ten_minutes(server: Server, oracles: dict[str, Any], protocol: str) -> None:
    """More sound than needed is no fault: 38 MB of it, and only the slice is worked on."""
    wave = np.tile(speech(1.0), 600)
    frames = Triton(server, protocol).frames("toy", wave, first=9000, count=2)
    near = wave[640 * 9000 - 16000 : 640 * 9000 + 16000]  # frame 25 of these two seconds
    assert_same_frames(frames, oracles["toy"].render(near, loop_offset=9000 - 25)[25:27])


@pytest.mark.parametrize(
    ("shape", "sent"),
    [
        ([10**12], 4), ([2**62], 4), ([2**61, 2], 4), ([-4], 4), ([3], 4), ([5], 4), ([0], 4),
        ([], 4), ([4], 0), ([4], 3), ([1000], 4),
    ],
)  # fmt: skip
def test_lies_about_the_size_over_grpc(server: Server, shape: list[int], sent: int) -> None:
    with grpc.insecure_channel(server.grpc_url.split("//")[1]) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for raw in (True, False):
            request = service_pb2.ModelInferRequest(model_name="toy")
            tensor = request.inputs.add(name="AUDIO", datatype="FP32", shape=shape)
            if raw:
                request.raw_input_contents.append(bytes(4 * sent))
            else:
                tensor.contents.fp32_contents.extend([0.0] * sent)
            with pytest.raises(grpc.RpcError) as failure:
                stub.ModelInfer(request, timeout=90)
            assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "AUDIO" in failure.value.details()


def header(shape: list[Any], size: int) -> bytes:
    parameters = {"binary_data_size": size}
    tensor = {"name": "AUDIO", "datatype": "FP32", "shape": shape, "parameters": parameters}
    return json.dumps({"inputs": [tensor]}).encode()


def as_json(**changes: Any) -> bytes:
    tensor = {"name": "AUDIO", "datatype": "FP32", "shape": [4], "data": [0, 0, 0, 0]}
    return json.dumps({"inputs": [tensor | changes], "outputs": [{"name": "JPEG"}]}).encode()


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (header([1000], 4000), bytes(100)),
        (header([1000], 40), bytes(40)),
        (header([10**12], 40), bytes(40)),
        (header([1000], 2**62), bytes(40)),
        (header([-4], 16), bytes(16)),
        (None, as_json()[:-5]),
        (None, as_json(shape=[-4])),
        (None, as_json(shape=[4.5])),
        (None, as_json(shape="4")),
        (None, as_json(data=[0])),
        (None, as_json(data=["a"] * 4)),
        (None, as_json(data=[None] * 4)),
        (None, as_json(data=[1e300] * 4)),
        (None, as_json(data=[0, 0, 0, 0]).replace(b"[0, 0, 0, 0]", b"[NaN, 0, 0, 0]")),
        (None, b""),
        (None, b"[]"),
        (None, b"hello"),
        (None, b"[" * 100_000),
        (None, b"\xff\xfe" * 1000),
    ],
)
def test_broken_http_bodies(server: Server, head: bytes | None, body: bytes) -> None:
    """Triton's own front end answers some of these with 500; what counts is a sentence and a live server."""
    headers = {} if head is None else {"Inference-Header-Content-Length": str(len(head))}
    url = f"{server.http_url}/v2/models/toy/infer"
    request = urllib.request.Request(url, (head or b"") + body, headers)
    with pytest.raises(urllib.error.HTTPError) as failure:
        urllib.request.urlopen(request, timeout=90)
    with failure.value as answer:
        assert answer.code in (400, 500)
        assert len(json.loads(answer.read())["error"]) > 10


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_models_inside_are_as_strict(server: Server, protocol: str) -> None:
    """They are open to callers too."""

    def zeros(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    loop_index, audio = zeros(33, 1, dtype=np.int64), zeros(33, 32, 16, 16)
    generator = {"model": "toy_generator", "outputs": ["patch"]}
    assert "<= 32" in refusal(
        server, protocol, {"loop_index": loop_index, "audio": audio}, **generator
    )
    tensors = {"loop_index": loop_index[:2], "audio": audio[:3]}
    assert "batch size does not match" in refusal(server, protocol, tensors, **generator)
    tensors = {"loop_index": loop_index[:1], "audio": audio[:1, :16]}
    assert "got [1,16,16,16]" in refusal(server, protocol, tensors, **generator)

    compositor = {"model": "toy_compositor"}
    patch = zeros(2, 320, 320, 3, dtype=np.uint8)
    tensors = {"PATCH": patch, "LOOP_INDEX": loop_index[:3]}
    assert "expected one LOOP_INDEX per PATCH" in refusal(server, protocol, tensors, **compositor)

    window = {"model": "audio_window", "outputs": ["audio"]}
    broken = ("StatusCode.INTERNAL", "500", *INVALID)
    for row in (3, -4, HIGHEST, LOWEST):  # two embeddings and the zero vector
        tensors = {"embedding": zeros(2, 512), "index": np.full((1, 16), row)}
        refusal(server, protocol, tensors, status=broken, **window)

    encoder = {"model": "audio_encoder", "outputs": ["embedding"]}
    assert "<= 64" in refusal(server, protocol, {"mel": zeros(65, 1, 80, 16)}, **encoder)


@pytest.mark.parametrize("loop_index", [LOWEST, -1, HIGHEST])
def test_any_loop_index_is_a_frame_of_the_avatar(server: Server, loop_index: int) -> None:
    """Straight to the generator and the compositor, which do not check what `mel` has."""
    triton = Triton(server, "grpc")
    loop_indices = np.full((1, 1), loop_index)
    audio = np.zeros((1, 32, 16, 16), np.float32)
    patch = triton.infer("toy_generator", {"loop_index": loop_indices, "audio": audio}, ["patch"])[
        "patch"
    ]
    tensors = {"PATCH": patch, "LOOP_INDEX": loop_indices}
    assert triton.infer("toy_compositor", tensors, ["FRAMES"])["FRAMES"].shape == (1, 240, 320, 3)


def test_nan_features_do_not_reach_the_neighbours_of_a_batch(server: Server) -> None:
    """The generator merges requests: a batch with NaN in one item leaves the others as they are."""
    triton = Triton(server, "grpc")
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((3, 32, 16, 16)).astype(np.float32)
    loop_index = np.arange(3)[:, None]
    clean = triton.infer("toy_generator", {"loop_index": loop_index, "audio": audio}, ["patch"])[
        "patch"
    ]
    audio[1] = np.nan
    mixed = triton.infer("toy_generator", {"loop_index": loop_index, "audio": audio}, ["patch"])[
        "patch"
    ]
    assert np.array_equal(clean[[0, 2]], mixed[[0, 2]])
