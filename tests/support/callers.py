"""A caller of the gateway: raw tritonclient and raw HTTPS, with a token and optionally a certificate."""

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
from numpy.typing import NDArray

from support.triton_calls import infer_inputs

TIMEOUT_S = 130.0  # longer than every timeout of the gateway


class Caller:
    """One caller over both protocols.

    Args:
        address: HOST:PORT of the gateway.
        ca: PEM file of the authority that signed the gateway's certificate.
        token: the caller's token, or None to send none.
        certificate: PEM file with key and chain, for a gateway that requires a client certificate.
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
        tensors: dict[str, NDArray[Any]],
        output: str,
        headers: dict[str, str] | None = None,
    ) -> NDArray[Any]:
        """Return an output of an avatar, as tritonclient decodes it."""
        module: Any = tritonclient.grpc if protocol == "grpc" else tritonclient.http
        client: Any = self.grpc if protocol == "grpc" else self.http
        inputs = infer_inputs(module, tensors)
        requested = [module.InferRequestedOutput(output)]
        # Without a timeout a hanging call would keep a failed test from ending.
        timeout = {"client_timeout": TIMEOUT_S} if protocol == "grpc" else {}
        headers = self.headers | (headers or {})
        result = client.infer(avatar, inputs, outputs=requested, headers=headers, **timeout)
        return np.asarray(result.as_numpy(output))

    def https(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Return status and body of one plain request."""
        status, _, text = self._request(method, path, body, headers or {})
        return status, text

    def post(
        self, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of one POST."""
        return self._request("POST", path, body, headers)

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        context = ssl.create_default_context(cafile=str(self._ca))
        if self._certificate is not None:
            context.load_cert_chain(str(self._certificate))
        host, _, port = self._address.rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=90)
        try:
            connection.request(method, path, body, self.headers | headers)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return response.status, names, response.read()
        finally:
            connection.close()

    def grpc_status(self, method: str, message: bytes = b"") -> grpc.StatusCode:
        """Return the status code of one unary call of inference.GRPCInferenceService.

        Args:
            message: the serialized request, sent unchanged.
        """
        return self.grpc_call(method, message)[0]

    def grpc_call(self, method: str, message: bytes = b"") -> tuple[grpc.StatusCode, str]:
        """Return status code and details of one unary call; the message is sent unchanged."""
        pem = None if self._certificate is None else self._certificate.read_bytes()
        credentials = grpc.ssl_channel_credentials(self._ca.read_bytes(), pem, pem)
        metadata = list(self.headers.items())
        with grpc.secure_channel(self._address, credentials) as channel:
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            try:
                call(message, metadata=metadata, timeout=90)
            except grpc.RpcError as e:
                return e.code(), e.details() or ""
            return grpc.StatusCode.OK, ""

    def close(self) -> None:
        """Close both connections."""
        self.grpc.close()
        self.http.close()
