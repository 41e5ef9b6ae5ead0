"""Lifecycle of an embedded tritonserver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ._arguments import Launch, linked_repository, new_key
from ._engines import engines_in
from ._errors import EmbeddedServerError, ServerStartError
from ._host import address_of, environment_of_server, free_ports, in_brackets, scratch_folder
from ._profiles import check_profile, loaded_models
from ._readiness import NotReady, wait_ready
from ._wheel import find_wheel

STOP_TIMEOUT_S = 15.0
_BIND_ATTEMPTS = 3
_TAIL_LINES = 12
_NO_GPU = "has kind KIND_GPU but no GPUs are available"


class Server:
    """A tritonserver on this machine, for the length of a `with` block.

    Its administrative interfaces (shared memory, trace and log settings, model control) need a key.


    Args:
        repository: Triton model repository.
        models: names to load, with the models that their ensembles need; None loads all.
        host: name or address to listen on; loopback by default.
        http_port, grpc_port, metrics_port: 0 picks a free port.
        startup_timeout_s: longest wait for every model to be ready.
        profile: load the config `configs/PROFILE.pbtxt` of models that have one (`lipsync-avatar tune` writes
            them), and the usual config of the others.
        model_control: let callers with the key load and unload models of the repository.
        admin_key: the key; a new one by default.
        log_file: file for tritonserver's log; by default it is deleted with the server.
        extra_args: further arguments of tritonserver.

    Attributes:
        admin_key: key of the administrative interfaces: the header `admin-key` (HTTP) or
            `triton-grpc-protocol-admin-key` (gRPC).

    Raises (on start):
        EmbeddedServerError: the repository is no directory, or lacks a model or the profile.
        ServerStartError: with exit code, elapsed time and the log's tail.
        WheelError: the environment lacks a part.
    """

    def __init__(
        self,
        repository: str | os.PathLike[str],
        *,
        models: Sequence[str] | None = None,
        host: str = "127.0.0.1",
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        startup_timeout_s: float = 120.0,
        profile: str | None = None,
        model_control: bool = False,
        admin_key: str | None = None,
        log_file: str | os.PathLike[str] | None = None,
        extra_args: Sequence[str] = (),
    ) -> None:
        self.repository = Path(repository).resolve()
        self._models = None if models is None else list(models)
        self._host = address_of(host)
        self._wanted_ports = (http_port, grpc_port, metrics_port)
        self._ports = self._wanted_ports
        self._startup_timeout_s = startup_timeout_s
        self._model_control = model_control
        self.admin_key = admin_key or new_key()
        self._profile = profile
        self._log_file = Path(log_file) if log_file else None
        self._log_begin = 0  # bytes: a log that is kept holds earlier runs
        self._extra_args = list(extra_args)
        self._guard: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def http_url(self) -> str:
        return f"http://{in_brackets(self._host)}:{self._ports[0]}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://{in_brackets(self._host)}:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        return f"http://{in_brackets(self._host)}:{self._ports[2]}/metrics"

    @property
    def pid(self) -> int | None:
        """Return the process id of the guard; tritonserver and its stubs are in its process group."""
        return None if self._guard is None else self._guard.pid

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the errors in tritonserver's log and its last lines, without the tables."""
        if self._log_file is None or not self._log_file.exists():
            return ""
        text = [
            x for x in self._log_file.read_text(errors="replace").splitlines() if x[:1] not in "+|"
        ]
        errors = [x for x in text[:-lines] if x.startswith("E")]
        return "\n".join(errors[-lines:] + text[-lines:])

    def engines(self) -> dict[str, str]:
        """Return the engine of each ONNX model, in words, as the log of a ready server names it."""
        if self._log_file is None or not self._log_file.exists():
            return {}
        with self._log_file.open(errors="replace") as log:
            log.seek(self._log_begin)
            return engines_in(log)

    def poll(self) -> int | None:
        """Return the exit code of a server that ended by itself; None while it runs."""
        return None if self._guard is None else self._guard.poll()

    def start(self) -> None:
        """Start tritonserver and wait until every model is ready."""
        if self._guard is not None:
            raise EmbeddedServerError("this server is running already")
        if not self.repository.is_dir():
            raise EmbeddedServerError(f"model repository {self.repository} is not a directory")
        if self._profile is not None:
            try:
                check_profile(self.repository, self._models, self._profile)
            except ValueError as e:
                raise EmbeddedServerError(f"{self.repository}: {e}") from None
        try:
            for attempt in range(1, _BIND_ATTEMPTS + 1):
                try:
                    self._launch()
                    self._wait_ready()
                    return
                except ServerStartError as e:
                    # Between our choice of a free port and tritonserver's bind another may take it.
                    lost = (
                        "Address already in use" in e.log_tail
                        or "failed to bind" in e.log_tail.lower()
                    )
                    if not lost or 0 not in self._wanted_ports or attempt == _BIND_ATTEMPTS:
                        raise
                    self.stop()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop tritonserver and wait until nothing of it is left; may be called again."""
        guard, self._guard = self._guard, None
        if guard is not None:
            if guard.stdin is not None:
                guard.stdin.close()
            guard.wait()
        if self._scratch is not None:
            if self._log_file is not None and self._scratch in self._log_file.parents:
                self._log_file = None
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit code."""
        if self._guard is None:
            raise EmbeddedServerError("this server is not running")
        return self._guard.wait()

    def _launch(self) -> None:
        wheel = find_wheel()
        self._scratch = scratch_folder()
        backends = self._scratch / "backends"
        wheel.assemble_backends(backends)
        try:
            repository = linked_repository(
                self._scratch, self.repository, None if self._model_control else self._models
            )
        except ValueError as e:
            raise EmbeddedServerError(f"{self.repository}: {e}") from None
        if self._log_file is None:
            self._log_file = self._scratch / "tritonserver.log"
        self._ports = free_ports(self._host, self._wanted_ports)
        launch = Launch(
            binary=wheel.binary,
            repository=repository,
            backends=backends,
            host=self._host,
            ports=self._ports,
            profile=self._profile,
            load=(self._models or ["*"]) if self._model_control else None,
            admin_key=self.admin_key,
            extra_args=self._extra_args,
            exit_timeout_s=int(STOP_TIMEOUT_S) - 5,
        )
        self._server_id = launch.server_id
        guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_guard.py"))]
        with self._log_file.open("ab") as log:
            self._log_begin = log.tell()
            self._guard = subprocess.Popen(
                [*guard, launch.shm_prefix, str(STOP_TIMEOUT_S), *launch.command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment_of_server(wheel.libraries),
                start_new_session=True,
            )
        self._started = time.monotonic()

    def _wait_ready(self) -> None:
        try:
            models = loaded_models(self.repository, self._models)
            wait_ready(
                self.http_url, self._server_id, models, self._startup_timeout_s, self._has_ended
            )
        except NotReady as e:
            raise self._start_error(str(e), self.poll()) from None

    def _has_ended(self) -> bool:
        return self.poll() is not None

    def _start_error(self, reason: str, code: int | None) -> ServerStartError:
        if _NO_GPU in self.log_tail():
            reason = "its configs want a GPU, and this machine has none"
        return ServerStartError(reason, code, time.monotonic() - self._started, self.log_tail())
