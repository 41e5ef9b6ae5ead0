"""Lifecycle of an embedded tritonserver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ._engines import engines_in
from ._host import environment_of_server, free_ports
from ._profiles import check_profile
from ._wheel import find_wheel

CPU_ENGINE = "LIPSYNC_CPU_ENGINE"  # read by onnx_model, in the server's processes

STOP_TIMEOUT_S = 15.0
_POLL_S = 0.05
_BIND_ATTEMPTS = 3
_TAIL_LINES = 12
_NO_GPU = "has kind KIND_GPU but no GPUs are available"


class ServerError(Exception):
    """The embedded server failed."""


class ServerStartError(ServerError):
    """tritonserver did not become ready.

    Attributes:
        exit_code: its exit code, or None if it was still starting.
        elapsed_s: seconds since it was started.
        log_tail: the last lines of its log.
    """

    def __init__(self, reason: str, exit_code: int | None, elapsed_s: float, log_tail: str) -> None:
        code = "it was still running" if exit_code is None else f"exit code {exit_code}"
        super().__init__(
            f"tritonserver did not start: {reason} ({code}, after {elapsed_s:.1f} s)."
            f" Its log ends:\n{log_tail}"
        )
        self.exit_code, self.elapsed_s, self.log_tail = exit_code, elapsed_s, log_tail


class Server:
    """A tritonserver on this machine, for the length of a `with` block.

    Args:
        repository: Triton model repository.
        models: names to load; None for all of them.
        host: address to listen on; loopback unless told otherwise.
        http_port, grpc_port, metrics_port: 0 picks a free one.
        startup_timeout_s: longest wait for every model to be ready.
        cpu_engine: what runs batching ONNX models on a CPU: "onnxruntime", or "openvino" for its single
            precision, which takes a sixth less time and rounds a little differently.
        profile: load the config `configs/PROFILE.pbtxt` of models that have one (`lipsync-avatar tune` writes
            them), and the others as usual.
        log_file: where tritonserver's log goes; by default a file that goes away with the server.
        extra_args: further arguments of tritonserver.

    Raises (on start):
        ServerError: the repository is none, or no model of it has the profile.
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
        cpu_engine: str = "onnxruntime",
        profile: str | None = None,
        log_file: str | os.PathLike[str] | None = None,
        extra_args: Sequence[str] = (),
    ) -> None:
        self.repository = Path(repository).resolve()
        self._models = None if models is None else list(models)
        self._host = host
        self._wanted_ports = (http_port, grpc_port, metrics_port)
        self._ports = self._wanted_ports
        self._startup_timeout_s = startup_timeout_s
        self._cpu_engine = cpu_engine
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
        return f"http://{self._host}:{self._ports[0]}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://{self._host}:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        return f"http://{self._host}:{self._ports[2]}/metrics"

    @property
    def pid(self) -> int | None:
        """Process id of the guard; tritonserver and its stubs are in its process group."""
        return None if self._guard is None else self._guard.pid

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """The errors in tritonserver's log and its last lines, without the tables."""
        if self._log_file is None or not self._log_file.exists():
            return ""
        text = [
            x for x in self._log_file.read_text(errors="replace").splitlines() if x[:1] not in "+|"
        ]
        errors = [x for x in text[:-lines] if x.startswith("E")]
        return "\n".join(errors[-lines:] + text[-lines:])

    def engines(self) -> dict[str, str]:
        """What runs each ONNX model, in words: by the log, so once the server is ready."""
        if self._log_file is None or not self._log_file.exists():
            return {}
        with self._log_file.open(errors="replace") as log:
            log.seek(self._log_begin)
            return engines_in(log)

    def poll(self) -> int | None:
        """Exit code of a server that ended by itself; None while it runs."""
        return None if self._guard is None else self._guard.poll()

    def start(self) -> None:
        """Start tritonserver and wait until every model is ready."""
        if self._guard is not None:
            raise ServerError("this server is running already")
        if not self.repository.is_dir():
            raise ServerError(f"model repository {self.repository} is not a directory")
        if self._profile is not None:
            try:
                check_profile(self.repository, self._models, self._profile)
            except ValueError as e:
                raise ServerError(f"{self.repository}: {e}") from None
        deadline = time.monotonic() + self._startup_timeout_s
        try:
            for attempt in range(1, _BIND_ATTEMPTS + 1):
                try:
                    self._launch()
                    self._wait_ready(deadline)
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
        """Wait for the server to end by itself; its exit code."""
        if self._guard is None:
            raise ServerError("this server is not running")
        return self._guard.wait()

    def _launch(self) -> None:
        wheel = find_wheel()
        self._scratch = Path(tempfile.mkdtemp(prefix="lipsync-server-"))
        backends = self._scratch / "backends"
        wheel.assemble_backends(backends)
        if self._log_file is None:
            self._log_file = self._scratch / "tritonserver.log"
        self._ports = free_ports(self._host, self._wanted_ports)
        shm_prefix = f"lipsync_{uuid.uuid4().hex[:12]}_"
        http, grpc, metrics = self._ports
        command = [
            str(wheel.binary),
            f"--model-repository={self.repository}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
            f"--http-address={self._host}", f"--http-port={http}",
            f"--grpc-address={self._host}", f"--grpc-port={grpc}",
            f"--metrics-address={self._host}", f"--metrics-port={metrics}",
            "--disable-auto-complete-config",
            f"--exit-timeout-secs={int(STOP_TIMEOUT_S) - 5}",
            *self._control_args(),
            *([f"--model-config-name={self._profile}"] if self._profile is not None else []),
            *self._extra_args,
        ]  # fmt: skip
        guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_guard.py"))]
        with self._log_file.open("ab") as log:
            self._log_begin = log.tell()
            self._guard = subprocess.Popen(
                [*guard, shm_prefix, str(STOP_TIMEOUT_S), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment_of_server(wheel.libraries) | {CPU_ENGINE: self._cpu_engine},
                start_new_session=True,
            )
        self._started = time.monotonic()

    def _control_args(self) -> list[str]:
        if self._models is None:
            return []
        return ["--model-control-mode=explicit", *(f"--load-model={name}" for name in self._models)]

    def _wait_ready(self, deadline: float) -> None:
        """Ask each model, not only the server: its own word stays "ready" with a dead Python stub."""
        waiting: list[str] | None = None
        while time.monotonic() < deadline:
            if self._guard is not None and (code := self._guard.poll()) is not None:
                raise self._start_error("it ended", code)
            if waiting is None and self._get("/v2/health/ready"):
                waiting = self._loaded()
            if waiting is not None:
                waiting = [name for name in waiting if not self._get(f"/v2/models/{name}/ready")]
                if not waiting:
                    return
            time.sleep(_POLL_S)
        what = "the server" if waiting is None else "models " + ", ".join(waiting)
        raise self._start_error(f"{what} not ready in {self._startup_timeout_s:.0f} s", None)

    def _loaded(self) -> list[str]:
        """Models that were loaded; those asked for where the index is behind a key."""
        request = urllib.request.Request(f"{self.http_url}/v2/repository/index", b"{}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                index = json.load(answer)
        except urllib.error.HTTPError:
            return self._models or [p.parent.name for p in self.repository.glob("*/config.pbtxt")]
        return [entry["name"] for entry in index if entry.get("state") == "READY"]

    def _get(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.http_url + path, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _start_error(self, reason: str, code: int | None) -> ServerStartError:
        if _NO_GPU in self.log_tail():
            reason = "its configs want a GPU, and this machine has none"
        return ServerStartError(reason, code, time.monotonic() - self._started, self.log_tail())
