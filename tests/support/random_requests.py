"""Random requests near valid ones, and the rule that decides whether Triton may get one.

The rule reads a request with Python's JSON parser or Google's protobuf, not with the gateway's parsers.
"""

from __future__ import annotations

import json
import random
from typing import Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from support.hostile_requests import (
    AUDIO,
    RawRequest,
    grpc_message,
    grpc_request,
    http_head,
    http_request,
)

REPEATED = {"parameters", "inputs", "outputs", "raw_input_contents"}
OUTPUTS = {"FRAMES", "H264", "JPEG"}
INPUTS = {"AUDIO", "AUDIO_START", "CLIP_SAMPLES", "FRAME_COUNT", "FRAME_START", "LOOP_OFFSET"}
PARAMETERS = {"crf", "jpeg_quality", "keyint", "preset", "timeout"}
WORDS = [
    *OUTPUTS,
    *INPUTS,
    *PARAMETERS,
    "classification",
    "binary_data",
    "shared_memory_region",
    "x",
]


class RandomRequests:
    """A sequence of requests; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def grpc(self) -> RawRequest:
        """Return a message with fields added, repeated, moved, cut or spoilt."""
        message = grpc_message(samples=40)
        if self._chance.random() < 0.5:
            message.parameters[self._chance.choice(WORDS)].int64_param = self._chance.randrange(4)
        if self._chance.random() < 0.3:
            message.outputs[0].parameters[self._chance.choice(WORDS)].int64_param = 1
        if self._chance.random() < 0.3:
            message.outputs[0].name = self._chance.choice(WORDS)
        if self._chance.random() < 0.2:
            message.outputs.add(name=self._chance.choice(WORDS))
        # Each field by itself, so that they can be put into any order.
        parts = []
        for field, value in message.ListFields():
            for item in value if field.name in REPEATED else [value]:
                single = service_pb2.ModelInferRequest()
                if field.name == "parameters":
                    single.parameters[item].CopyFrom(value[item])
                elif field.name in REPEATED:
                    getattr(single, field.name).append(item)
                else:
                    setattr(single, field.name, item)
                parts.append(single.SerializeToString())
        if self._chance.random() < 0.4:
            self._chance.shuffle(parts)
        if self._chance.random() < 0.2:
            parts.append(self._chance.choice(parts))
        return grpc_request(self._spoilt(b"".join(parts)))

    def http(self) -> RawRequest:
        """Return JSON with keys added, repeated, escaped, moved or spoilt, and the audio."""
        head: Any = http_head(samples=40)
        targets = [head, head["outputs"][0], head["inputs"][0], head["outputs"][0]["parameters"]]
        for _ in range(self._chance.randrange(3)):
            self._chance.choice(targets)[self._chance.choice(["parameters", "name", *WORDS])] = (
                self._chance.choice(
                    [
                        1,
                        True,
                        None,
                        "JPEG",
                        "1",
                        1.5,
                        [1],
                        {"classification": 1},
                        {"binary_data": True},
                    ]
                )
            )
        text = json.dumps(head, indent=self._chance.choice([None, 1]))
        if self._chance.random() < 0.2:
            word = self._chance.choice(["JPEG", "outputs", "name", "binary_data"])
            text = text.replace(word, f"\\u{ord(word[0]):04x}" + word[1:], 1)
        if self._chance.random() < 0.2:
            more = f'"{self._chance.choice(["outputs", "parameters", "id"])}": '
            text = text[:-1] + ", " + more + self._chance.choice(["[]", "{}", '"x"', "1"]) + "}"
        return http_request(self._spoilt(text.encode()), AUDIO[:160])

    def _spoilt(self, body: bytes) -> bytes:
        spoilt = bytearray(body)
        if self._chance.random() < 0.4:
            for _ in range(self._chance.randint(1, 3)):
                spoilt[self._chance.randrange(len(spoilt))] = self._chance.randrange(256)
        if self._chance.random() < 0.1:
            del spoilt[self._chance.randrange(len(spoilt)) :]
        return bytes(spoilt) or b" "


def is_harmless_grpc(request: RawRequest) -> bool:
    """Return whether Triton may get a request, as protobuf reads it."""
    message = service_pb2.ModelInferRequest()
    try:
        message.ParseFromString(request.body[5:])
    except DecodeError:
        return False
    return (
        [output.name in OUTPUTS and not output.parameters for output in message.outputs] == [True]
        and all(t.name in INPUTS and not t.parameters for t in message.inputs)
        and not any(tensor.HasField("contents") for tensor in message.inputs)
        and set(message.parameters) <= PARAMETERS
        and [4 * t.shape[0] for t in message.inputs]
        == [len(content) for content in message.raw_input_contents]
    )


def is_harmless_http(request: RawRequest) -> bool:
    """Return whether Triton may get a request, as Python reads its JSON; it has no key twice."""
    length = int(request.headers["Inference-Header-Content-Length"])
    keys: list[list[str]] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys.append([key for key, _ in items])
        return dict(items)

    try:
        head = json.loads(request.body[:length], object_pairs_hook=pairs)
    except ValueError:
        return False
    return bool(
        all(len(set(found)) == len(found) for found in keys)
        and [output["name"] in OUTPUTS for output in head["outputs"]] == [True]
        and head["outputs"][0]["parameters"] == {"binary_data": True}
        and all(t["name"] in INPUTS and "data" not in t for t in head["inputs"])
        and sum(t["parameters"]["binary_data_size"] for t in head["inputs"]) == 160
        and set(head.get("parameters", {})) <= PARAMETERS
    )
