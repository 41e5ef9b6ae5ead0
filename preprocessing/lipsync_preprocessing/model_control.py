"""Loading and unloading models of a running Triton, through its repository API.

The server must run with `--model-control-mode=explicit`. Where that API is closed to strangers
(`--grpc-restricted-protocol=model-repository:NAME=KEY`, `--http-restricted-api=…`), the key is
sent the way each protocol wants it: HTTP has a header of that name, gRPC prefixes it.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from lipsync_preprocessing.errors import ServerError

DEFAULT_KEY_NAME = "admin-key"
GRPC_KEY_PREFIX = "triton-grpc-protocol-"
LOAD_TIMEOUT_S = 300.0


class ModelControl:
    """The repository API of one server.

    Args:
        url: grpc://HOST:PORT or http(s)://HOST:PORT.
        admin_key: KEY, or NAME=KEY where the server's key has another name than "admin-key".
        timeout_s: for each call; a load answers when the model is ready.
    """

    def __init__(
        self, url: str, admin_key: str | None = None, timeout_s: float = LOAD_TIMEOUT_S
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("grpc", "http", "https") or not parts.netloc:
            raise ServerError(f"{url}: expected grpc://HOST:PORT or http://HOST:PORT")
        self.url = url
        self._host, self._is_grpc, self._timeout_s = parts.netloc, parts.scheme == "grpc", timeout_s
        self._headers: dict[str, str] = {}
        if admin_key:
            name, _, key = admin_key.rpartition("=")
            name = (name or DEFAULT_KEY_NAME).lower()
            self._headers = {(GRPC_KEY_PREFIX if self._is_grpc else "") + name: key}

    def load(self, model: str) -> None:
        """Load the model, or reload what changed of it; returns when it is ready.

        An ensemble brings along what it is made of.
        """
        self._call("load", model)

    def load_all(self, models: Sequence[str]) -> None:
        """Load models given as `models_of` does, the ensemble first: it is loaded last.

        One by one, since an ensemble loads well with the version of a part that was there before,
        whatever became of the new one. What did not change is not loaded again.
        """
        for model in reversed(models):
            self.load(model)

    def unload(self, model: str) -> None:
        """Unload the model; requests already in it are finished."""
        self._call("unload", model)

    def check(self) -> None:
        """ServerError if no server answers there, or not with this key."""
        self._call("index", "")

    def _call(self, verb: str, model: str) -> None:
        try:
            if self._is_grpc:
                self._call_grpc(verb, model)
            else:
                self._call_http(verb, model)
        except InferenceServerException as error:
            raise self._told(verb, model, str(error.message())) from error
        except urllib.error.HTTPError as error:
            raise self._told(verb, model, _message(error.read())) from error
        except OSError as error:  # urllib's URLError and timeouts too
            raise self._told(verb, model, f"failed to connect: {error}") from error

    def _call_grpc(self, verb: str, model: str) -> None:
        client: Any = tritonclient.grpc.InferenceServerClient(self._host)
        options = {"headers": self._headers, "client_timeout": self._timeout_s}
        try:
            if verb == "load":
                client.load_model(model, **options)
            elif verb == "unload":
                client.unload_model(model, **options)
            else:
                client.get_model_repository_index(**options)
        finally:
            client.close()

    def _call_http(self, verb: str, model: str) -> None:
        path = f"/v2/repository/models/{urllib.parse.quote(model)}/{verb}"
        if not model:
            path = f"/v2/repository/{verb}"
        request = urllib.request.Request(self.url.rstrip("/") + path, b"{}", self._headers)
        with urllib.request.urlopen(request, timeout=self._timeout_s):
            pass

    def _told(self, verb: str, model: str, message: str) -> ServerError:
        line = " ".join(message.split())
        lower = line.lower()
        if "restricted" in lower:
            wrong = "another" if self._headers else "an"
            return ServerError(f"{self.url}: expected {wrong} admin key (--admin-key): {line}")
        if "failed to connect" in lower or "connection refused" in lower:
            return ServerError(f"{self.url}: no server answers: {line}")
        if "explicit" in lower or "not allowed" in lower:
            return ServerError(
                f"{self.url}: cannot {verb} {model}: expected a server started with"
                f" --model-control-mode=explicit: {line}"
            )
        return ServerError(f"{self.url}: cannot {verb} {model}: {line}")


def _message(body: bytes) -> str:
    """Triton's words in an HTTP error's body."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace") or "no explanation"
