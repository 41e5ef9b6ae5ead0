"""Loading and unloading models of a running Triton, through its model control.

The server must run with `--model-control-mode=explicit`. Where its model control needs a key
(`--grpc-restricted-protocol=model-repository:NAME=KEY`, `--http-restricted-api=…`), each protocol has
its own way to send it: HTTP has a header of that name, gRPC a prefix before the name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TypeAlias
from urllib.parse import urlsplit

import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from lipsync_preprocessing.errors import ModelControlError, one_line

Client: TypeAlias = (
    "tritonclient.grpc.InferenceServerClient | tritonclient.http.InferenceServerClient"
)

_UNLIMITED = -1
DEFAULT_KEY_NAME = "admin-key"
GRPC_KEY_PREFIX = "triton-grpc-protocol-"
LOAD_TIMEOUT_S = 300.0


class ModelControl:
    """The model control of one server.

    Args:
        url: grpc://HOST:PORT or http(s)://HOST:PORT.
        admin_key: KEY, or NAME=KEY where the server's key has another name than "admin-key".
        timeout_s: for each call; the response to a load comes when the model is ready.

    Raises:
        ModelControlError: the URL is another; from a method: the server refuses, or is silent.
    """

    def __init__(
        self, url: str, admin_key: str | None = None, timeout_s: float = LOAD_TIMEOUT_S
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("grpc", "http", "https") or not parts.netloc:
            raise ModelControlError(f"{url}: expected grpc://HOST:PORT or http://HOST:PORT")
        self.url = url
        self._address = parts.netloc + parts.path.rstrip("/")
        self._scheme, self._timeout_s = parts.scheme, timeout_s
        self._headers: dict[str, str] = {}
        if admin_key:
            name, _, key = admin_key.rpartition("=")
            prefix = GRPC_KEY_PREFIX if parts.scheme == "grpc" else ""
            self._headers = {prefix + (name or DEFAULT_KEY_NAME).lower(): key}

    def load(self, model: str) -> None:
        """Load a model, or reload what changed of it; return when it is ready.

        An ensemble loads its steps too.
        """
        self._call(f"load {model}", lambda client, options: client.load_model(model, **options))

    def load_all(self, models: Sequence[str]) -> None:
        """Load the models of an avatar, in the reverse of the order that `models_of` gives.

        The ensemble comes last: it would load with the old version of a part, whatever became of the new
        one. A model that did not change is not loaded again.
        """
        for model in reversed(models):
            self.load(model)

    def unload(self, model: str) -> None:
        """Unload a model; requests in flight are finished."""
        self._call(f"unload {model}", lambda client, options: client.unload_model(model, **options))

    def check(self) -> None:
        """Raise ModelControlError if no server responds there, or not to this key."""
        self._call(
            "list the models", lambda client, options: client.get_model_repository_index(**options)
        )

    def _call(self, action: str, call: Callable[[Client, dict[str, object]], object]) -> None:
        options: dict[str, object] = {"headers": self._headers}
        if self._scheme == "grpc":
            options["client_timeout"] = self._timeout_s
        client = self._client()
        try:
            call(client, options)
        except InferenceServerException as error:
            raise self._to_error(action, str(error.message())) from error
        except OSError as error:  # the HTTP client's connection errors and timeouts
            raise ModelControlError(f"{self.url}: no server answers: {one_line(error)}") from error
        finally:
            client.close()

    def _client(self) -> Client:
        if self._scheme == "grpc":
            return grpc_client(self._address)
        return tritonclient.http.InferenceServerClient(
            self._address, ssl=self._scheme == "https", network_timeout=self._timeout_s
        )

    def _to_error(self, action: str, message: str) -> ModelControlError:
        line = " ".join(message.split())
        lower = line.lower()
        if "restricted" in lower:
            wrong = "another" if self._headers else "an"
            return ModelControlError(
                f"{self.url}: expected {wrong} admin key (--admin-key): {line}"
            )
        if "failed to connect" in lower or "connection refused" in lower:
            return ModelControlError(f"{self.url}: no server answers: {line}")
        if "explicit" in lower or "not allowed" in lower:
            return ModelControlError(
                f"{self.url}: cannot {action}: expected a server started with"
                f" --model-control-mode=explicit: {line}"
            )
        return ModelControlError(f"{self.url}: cannot {action}: {line}")


def grpc_client(address: str) -> tritonclient.grpc.InferenceServerClient:
    """Return a gRPC client of HOST:PORT; it uses no proxy of the environment for this machine."""
    return tritonclient.grpc.InferenceServerClient(
        address,
        channel_args=[
            ("grpc.max_send_message_length", _UNLIMITED),
            ("grpc.max_receive_message_length", _UNLIMITED),
            ("grpc.enable_http_proxy", int(not _is_loopback(address))),
        ],
    )


def _is_loopback(address: str) -> bool:
    host = urlsplit(f"//{address}").hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
