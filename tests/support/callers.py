"""A caller of the gateway: raw tritonclient and raw HTTPS, with a token and perhaps a certificate."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import Any

import gevent.ssl
import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import np_to_triton_dtype

TIMEOUT_S = 130.0  # longer than the gateway's own limit


class Caller:
    """One caller over both protocols.

    Args:
        address: HOST:PORT of the gateway.
        ca: the authority that the gateway's certificate is from.
        token: or None to send none.
        certificate: PEM with key and chain, for a gateway that asks for one.
    """

    def __init__(
        self, address: str, ca: Path, token: str | None, certificate: Path | None = None
    ) -> None:
        self._address, self._ca, self._certificate = address, ca, certificate
        self.headers = {} if token is None else {"authorization": f"Bearer {token}"}
        pem = None if certificate is None else str(certificate)
        self.grpc = tritonclient.grpc.InferenceServerClient(
            address, ssl=True, root_certificates=str(ca), private_key=pem, certificate_chain=pem
        )
        context = gevent.ssl.create_default_context(cafile=str(ca))
        if pem is not None:
            context.load_cert_chain(pem)
        self.http = tritonclient.http.InferenceServerClient(
            address,
            ssl=True,
            ssl_context_factory=lambda: context,
            connection_timeout=TIMEOUT_S,
            network_timeout=TIMEOUT_S,
        )

    def frames(
        self,
        protocol: str,
        avatar: str,
        tensors: dict[str, Any],
        output: str,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """An output of an avatar, as tritonclient gives it."""
        module: Any = tritonclient.grpc if protocol == "grpc" else tritonclient.http
        client: Any = self.grpc if protocol == "grpc" else self.http
        inputs = []
        for name, array in tensors.items():
            inputs.append(module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
            inputs[-1].set_data_from_numpy(array)
        wanted = [module.InferRequestedOutput(output)]
        # A caller that waits for ever would keep a failed test from ending.
        limit = {"client_timeout": TIMEOUT_S} if protocol == "grpc" else {}
        headers = self.headers | (headers or {})
        result = client.infer(avatar, inputs, outputs=wanted, headers=headers, **limit)
        return np.asarray(result.as_numpy(output))

    def https(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of one plain request."""
        context = ssl.create_default_context(cafile=str(self._ca))
        if self._certificate is not None:
            context.load_cert_chain(str(self._certificate))
        host, _, port = self._address.rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
        try:
            connection.request(method, path, body, self.headers | (headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def grpc_status(self, method: str, message: bytes = b"") -> grpc.StatusCode:
        """Status code of one unary call of inference.GRPCInferenceService, the message as it is."""
        pem = None if self._certificate is None else self._certificate.read_bytes()
        credentials = grpc.ssl_channel_credentials(self._ca.read_bytes(), pem, pem)
        metadata = list(self.headers.items())
        with grpc.secure_channel(self._address, credentials) as channel:
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            try:
                call(message, metadata=metadata, timeout=30)
            except grpc.RpcError as e:
                code: grpc.StatusCode = e.code()
                return code
            return grpc.StatusCode.OK

    def close(self) -> None:
        self.grpc.close()
        self.http.close()
