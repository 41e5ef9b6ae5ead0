"""Requests that end Triton 2.51 or make it take gigabytes, each written in many ways.

Without the gateway's check, `classification` on an output of type BYTES ends tritonserver with SIGFPE.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

INFER = "/inference.GRPCInferenceService/ModelInfer"
GRPC = {"content-type": "application/grpc", "te": "trailers"}


@dataclass(frozen=True)
class RawRequest:
    """A POST as its bytes."""

    path: str
    headers: dict[str, str]
    body: bytes


def grpc_message(
    samples: int = 4000, model: str = "toy", output: str = "JPEG", **parameters: int
) -> service_pb2.ModelInferRequest:
    """Return a valid request for a frame, with further parameters on its output."""
    request = service_pb2.ModelInferRequest(model_name=model)
    audio = request.inputs.add(name="AUDIO", datatype="FP32")
    audio.shape.append(samples)
    request.raw_input_contents.append(bytes(4 * samples))
    wanted = request.outputs.add(name=output)
    for name, value in parameters.items():
        wanted.parameters[name].int64_param = value
    return request


def framed(message: bytes, compressed: int = 0) -> bytes:
    """Return a message as gRPC puts it into a body."""
    return struct.pack(">BI", compressed, len(message)) + message


def grpc_request(message: bytes, headers: dict[str, str] | None = None) -> RawRequest:
    return RawRequest(INFER, GRPC | (headers or {}), framed(message))


def field(number: int, content: bytes) -> bytes:
    """Return a protobuf field of bytes, shorter than 128."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def http_request(
    head: Any, data: bytes = b"", path: str = "/v2/models/toy/infer", **headers: str
) -> RawRequest:
    """Return a request with this JSON, or text of JSON, and the length of it in the header."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    length = {"Inference-Header-Content-Length": str(len(text))}
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawRequest(path, length | more, text + data)


def http_head(
    samples: int = 4000,
    output: dict[str, Any] | None = None,
    tensor: dict[str, Any] | None = None,
    **top: Any,
) -> dict[str, Any]:
    """Return the JSON of a valid request for a frame, changed."""
    audio = {"name": "AUDIO", "datatype": "FP32", "shape": [samples]}
    audio |= {"parameters": {"binary_data_size": 4 * samples}} | (tensor or {})
    wanted = {"name": "JPEG", "parameters": {"binary_data": True}} | (output or {})
    return {"inputs": [audio], "outputs": [wanted]} | top


AUDIO = bytes(16_000)
PLAIN = {"binary_data": True}
CLASSIFIED = PLAIN | {"classification": 1}
# An output JPEG with classification 1, written by hand: a map entry with key and value.
KEY, VALUE = field(1, b"classification"), field(2, b"\x10\x01")
OUTPUT = field(1, b"JPEG")


def _by_hand(output: bytes, after: bytes = b"") -> bytes:
    """Return a valid request whose output is written by hand, last in the message."""
    request = grpc_message()
    del request.outputs[:]
    return bytes(request.SerializeToString() + field(6, output) + after)


def _with_parameter(kind: str, value: Any) -> bytes:
    request = grpc_message()
    setattr(request.outputs[0].parameters["classification"], kind, value)
    return bytes(request.SerializeToString())


def _after_audio() -> bytes:
    """Return the parameter behind 200 KB of audio."""
    return _by_hand(OUTPUT + field(2, KEY + VALUE)).replace(AUDIO, b"") + b"".join(
        [b"\x3a\x80\x80\x0d", bytes(13 << 14)]
    )


def _request_parameter(name: str) -> bytes:
    request = grpc_message()
    request.parameters[name].int64_param = 1
    return bytes(request.SerializeToString())


def classification() -> dict[str, RawRequest]:
    """Return the same parameter in every disguise."""
    tiny = service_pb2.ModelInferRequest(model_name="toy")
    tiny.outputs.add(name="JPEG").parameters["classification"].int64_param = 1
    plain = _by_hand(OUTPUT + field(2, KEY + VALUE))
    escaped = json.dumps(http_head(output={"parameters": CLASSIFIED})).encode()
    twice = b'{"name": "JPEG", "parameters": {"binary_data": true}, "parameters": {"classification": 1}}'
    wide = json.dumps(http_head(output={"parameters": CLASSIFIED})).encode()
    return {
        "grpc: alone": grpc_request(tiny.SerializeToString()),
        "grpc: integer": grpc_request(grpc_message(classification=1).SerializeToString()),
        "grpc: large": grpc_request(grpc_message(classification=2**31).SerializeToString()),
        "grpc: text": grpc_request(_with_parameter("string_param", "1")),
        "grpc: boolean": grpc_request(_with_parameter("bool_param", True)),
        "grpc: unsigned": grpc_request(_with_parameter("uint64_param", 1)),
        "grpc: H264": grpc_request(grpc_message(output="H264", classification=1).SerializeToString()),
        "grpc: of the request": grpc_request(_request_parameter("classification")),
        "grpc: value before key": grpc_request(_by_hand(OUTPUT + field(2, VALUE + KEY))),
        "grpc: two keys": grpc_request(
            _by_hand(OUTPUT + field(2, field(1, b"binary_data") + KEY + VALUE))
        ),
        "grpc: behind the audio": grpc_request(_after_audio()),
        "grpc: behind an unknown field": grpc_request(field(9, b"x" * 100) + plain),
        "grpc: overlong tag": grpc_request(
            _by_hand(OUTPUT).replace(field(6, OUTPUT), b"")
            + b"\xb2\x00" + field(6, OUTPUT + field(2, KEY + VALUE))[1:]
        ),
        "grpc: overlong length": grpc_request(
            _by_hand(OUTPUT + b"\x12" + b"\x94\x80\x00" + KEY + VALUE)
        ),
        "grpc: second message": RawRequest(
            INFER, GRPC, framed(_by_hand(OUTPUT)) + framed(plain)
        ),
        "grpc: flagged as compressed": RawRequest(INFER, GRPC, framed(plain, compressed=1)),
        "grpc: other content type": grpc_request(plain, {"content-type": "application/grpc+proto"}),
        "http: alone": http_request(
            {"outputs": [{"name": "JPEG", "parameters": CLASSIFIED}], "inputs": []}
        ),
        "http: integer": http_request(http_head(output={"parameters": CLASSIFIED}), AUDIO),
        "http: instead of binary": http_request(
            http_head(output={"parameters": {"classification": 1}}), AUDIO
        ),
        "http: text": http_request(
            http_head(output={"parameters": PLAIN | {"classification": "1"}}), AUDIO
        ),
        "http: of the request": http_request(http_head(parameters={"classification": 1}), AUDIO),
        "http: escaped": http_request(
            escaped.replace(b"classification", rb"classific\u0061tion"), AUDIO
        ),
        "http: repeated key": http_request(
            json.dumps(http_head())
            .encode()
            .replace(b'{"name": "JPEG", "parameters": {"binary_data": true}}', twice),
            AUDIO,
        ),
        "http: white space": http_request(wide.replace(b" ", b"\n\t\r "), AUDIO),
        "http: far behind": http_request(wide.replace(b" ", b" " * 6000), AUDIO),
        "http: with a version": http_request(
            http_head(output={"parameters": CLASSIFIED}), AUDIO, "/v2/models/toy/versions/1/infer"
        ),
        "http: length in another form": http_request(
            http_head(output={"parameters": CLASSIFIED}),
            AUDIO,
            Inference_Header_Content_Length="0x10",
        ),
        "http: without the length": RawRequest("/v2/models/toy/infer", {}, wide),
    }  # fmt: skip


def other() -> dict[str, RawRequest]:
    """Return other requests that harm Triton 2.51, or that ask for what this service has no use for."""
    shared = {"shared_memory_region": "x", "shared_memory_byte_size": 16}
    claim = {"shape": [10**13], "data": [1.0]}
    wrapped = grpc_message(samples=0)
    wrapped.inputs[0].shape[0] = 2**62
    typed = grpc_message()
    typed.raw_input_contents.pop()
    typed.inputs[0].contents.fp32_contents.extend(np.zeros(4000).tolist())
    both = grpc_message()
    both.outputs.add(name="H264")
    none = grpc_message()
    del none.outputs[:]
    return {
        "grpc: a shape that overflows": grpc_request(wrapped.SerializeToString()),
        "grpc: typed contents": grpc_request(typed.SerializeToString()),
        "grpc: every output": grpc_request(none.SerializeToString()),
        "grpc: two outputs": grpc_request(both.SerializeToString()),
        "grpc: shared memory": grpc_request(grpc_message(shared_memory_offset=1).SerializeToString()),
        "grpc: a sequence": grpc_request(_request_parameter("sequence_id")),
        "grpc: a priority": grpc_request(_request_parameter("priority")),
        "grpc: an inner model": grpc_request(grpc_message(model="audio_window").SerializeToString()),
        "grpc: an avatar's part": grpc_request(
            grpc_message(model="toy_compositor").SerializeToString()
        ),
        "grpc: a stream in one response": grpc_request(grpc_message(model="stream").SerializeToString()),
        "http: frames as JSON": http_request(http_head(output={"parameters": {}}), AUDIO),
        "http: binary_data false": http_request(
            http_head(output={"parameters": {"binary_data": False}}), AUDIO
        ),
        "http: a claimed shape": http_request(http_head(tensor={"parameters": {}} | claim), b""),
        "http: a malformed size": http_request(
            http_head(tensor={"parameters": {"binary_data_size": "x"}}), AUDIO
        ),
        "http: a huge size": http_request(
            http_head(tensor={"parameters": {"binary_data_size": 2**63}}), AUDIO
        ),
        "http: shared memory": http_request(http_head(tensor={"parameters": shared}), AUDIO),
        "http: a sequence": http_request(http_head(parameters={"sequence_id": 1}), AUDIO),
        "http: binary_data_output": http_request(
            http_head(parameters={"binary_data_output": True}), AUDIO
        ),
        "http: deep": http_request(b"[" * 4000, b""),
        "http: an inner model": http_request(
            http_head(), AUDIO, "/v2/models/audio_window/infer"
        ),
        "http: an avatar's part": http_request(http_head(), AUDIO, "/v2/models/toy_generator/infer"),
        "http: index with a body": RawRequest("/v2/repository/index", {}, b"[" * 200_000),
    }  # fmt: skip
