"""Requests made by chance, most of them wrong in one way or another, all of them from a seed."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from lipsync_embedded import Server

from .fuzz_tensors import INPUTS, NUMBERS, RandomTensors

LIMIT_S = 60.0  # a request that takes longer hangs
OUTPUTS = (
    "FRAMES",
    "JPEG",
    "JPEG",
    "H264",
    "H264",
    "PNG",
    "",
    "patch",
    "embedding",
    "MEL",
    "audio",
)
PARAMETERS = (
    "crf",
    "preset",
    "jpeg_quality",
    "keyint",
    "x",
    "binary_data",
    "sequence_id",
    "timeout",
)


class Fuzzer(RandomTensors):
    """Requests with random inputs; the same seed sends the same requests."""

    def __init__(self, server: Server, seed: int) -> None:
        super().__init__(seed)
        self._http = urlsplit(server.http_url)
        self._grpc = urlsplit(server.grpc_url)
        self._channel = grpc.insecure_channel(
            server.grpc_url.split("//")[1], options=[("grpc.max_receive_message_length", -1)]
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def send(self) -> str:
        """Send one request, and return how it was answered.

        Raises:
            TimeoutError: it was not, within LIMIT_S.
        """
        kinds = [self.grpc_call, self.grpc_call, self.grpc_stream, self.http_json]
        kinds += [self.http_binary, self.http_binary, self.raw_http, self.raw_grpc]
        return self.chance.choice(kinds)()

    def parameters(self) -> dict[str, Any]:
        if self.maybe(0.6):
            return {}
        values = (*NUMBERS[:12], True, "", "fast", "medium", "x" * 1000, 20.5, -1.0)
        return {self.chance.choice(PARAMETERS): self.chance.choice(values)}

    def grpc_call(self) -> str:
        try:
            self._stub.ModelInfer(self._request(), timeout=LIMIT_S)
        except grpc.RpcError as e:
            return _said(e)
        return "answered"

    def grpc_stream(self) -> str:
        count = self.chance.randint(1, 3)
        requests = [self._request("stream") for _ in range(count)]
        answers = self._stub.ModelStreamInfer(iter(requests), timeout=LIMIT_S)
        try:
            for number, answer in enumerate(answers):
                if answer.error_message:
                    return "refused within a stream"
                if number == 2:  # frames enough
                    answers.cancel()
                    return "answered within a stream"
        except grpc.RpcError as e:
            return _said(e)
        return "a stream without answers"

    def http_json(self) -> str:
        model = self._model()
        # Triton 2.51 takes the memory that a JSON tensor claims before it counts what is there: a claim of
        # terabytes ends the server. Nothing of ours can stand before that, so the claims here are small.
        inputs = [
            {
                "name": t.name,
                "datatype": t.kind,
                "shape": [*t.shape]
                if t.shape == t.array.shape
                else [min(n, 64) for n in t.shape[:3]],
                "data": [str(x) for x in t.array.ravel()[:200]]
                if t.kind == "BYTES"
                else np.nan_to_num(t.array.ravel()[:5000].astype(np.float64)).tolist(),
            }
            for t in self.tensors(model)
        ]
        asked = {"inputs": inputs, "outputs": [{"name": self._output()}]}
        body = bytearray(json.dumps(asked | {"parameters": self.parameters()}).encode())
        self._spoil(body)
        return self._post(model, b"", bytes(body))

    def http_binary(self) -> str:
        model = self._model()
        inputs, data = [], b""
        for t in self.tensors(model):
            size = len(t.data) if self.maybe(0.9) else self.chance.choice(NUMBERS)
            inputs.append(
                {"name": t.name, "datatype": t.kind, "shape": list(t.shape)}
                | {"parameters": {"binary_data_size": size}}
            )
            data += t.data
        asked = {"inputs": inputs, "outputs": [{"name": self._output()}]}
        head = bytearray(json.dumps(asked | {"parameters": self.parameters()}).encode())
        said = len(head) if self.maybe(0.9) else self.chance.choice(NUMBERS)
        self._spoil(head)
        if self.maybe(0.2):
            data = data[: self.chance.randint(0, len(data))]
        return self._post(
            model, b"Inference-Header-Content-Length: %d\r\n" % said, bytes(head + data)
        )

    def raw_http(self) -> str:
        starts = (b"", b"GET / HTTP/1.1\r\n", b"POST /v2/models/toy/infer HTTP/1.1\r\nHost: x\r\n")
        return self._raw(self._http, self.chance.choice(starts) + self.garbage(), "raw HTTP")

    def raw_grpc(self) -> str:
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        starts = (b"", preface, preface + bytes(3) + b"\x04" + bytes(5))
        return self._raw(self._grpc, self.chance.choice(starts) + self.garbage(), "raw gRPC")

    def _model(self) -> str:
        return self.chance.choice([*INPUTS, "toy", "toy", "toy"])

    def _output(self) -> str:
        return self.chance.choice(OUTPUTS[:3] if self.maybe(0.7) else OUTPUTS)

    def _spoil(self, body: bytearray) -> None:
        if self.maybe(0.3) and body:
            for _ in range(self.chance.randint(1, 4)):
                body[self.chance.randrange(len(body))] = self.chance.randrange(256)

    def _request(self, model: str | None = None) -> Any:
        model = model or self._model()
        request = service_pb2.ModelInferRequest(model_name=model)
        typed = self.maybe(0.15)
        for t in self.tensors(model):
            added = request.inputs.add(name=t.name, datatype=t.kind)
            added.shape.extend(t.shape)
            if typed and t.kind == "FP32":
                added.contents.fp32_contents.extend(t.array.ravel()[:5000].tolist())
            elif typed and t.kind == "INT64":
                added.contents.int64_contents.extend(t.array.ravel()[:5000].tolist())
            else:
                request.raw_input_contents.append(t.data)
        if model != "stream" and self.maybe(0.9):
            request.outputs.add(name=self._output())
        for key, value in self.parameters().items():
            field = {bool: "bool_param", int: "int64_param", str: "string_param"}
            setattr(request.parameters[key], field.get(type(value), "double_param"), value)
        return request

    def _post(self, model: str, headers: bytes, body: bytes) -> str:
        """Send it over a socket of its own, so that the body's length may be a lie."""
        size, cut = len(body), self.maybe(0.15)
        if cut:
            body = body[: self.chance.randint(0, len(body))]
        head = (
            b"POST /v2/models/%b/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            % model.encode()
        )
        head += b"Content-Length: %d\r\n" % size + headers + b"\r\n"
        if cut:
            return self._raw(self._http, head + body, "a cut body")
        address = str(self._http.hostname), int(self._http.port or 0)
        with socket.create_connection(address, LIMIT_S) as sock:
            sock.sendall(head + body)
            answer = b""
            try:
                while b"\r\n" not in answer and (part := sock.recv(65536)):
                    answer += part
            except ConnectionResetError:
                return "HTTP: closed"
            except TimeoutError as e:
                raise TimeoutError(f"no answer to {head!r} {body[:2000]!r}") from e
        return "HTTP " + answer[9:12].decode(errors="replace")

    def _raw(self, address: Any, data: bytes, kind: str) -> str:
        """Send bytes to a port and leave it, with a reset in half of the cases."""
        with socket.create_connection((address.hostname, address.port), LIMIT_S) as sock:
            if self.maybe(0.5):
                linger = (1).to_bytes(4, "little") + bytes(4)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            try:
                sock.sendall(data)
                sock.settimeout(0.05)
                sock.recv(100)
            except (ConnectionError, TimeoutError):
                pass
        return kind


def _said(error: Any) -> str:
    code = error.code()
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        raise TimeoutError(f"no answer within {LIMIT_S:g} s") from error
    return f"gRPC {code.name}"
