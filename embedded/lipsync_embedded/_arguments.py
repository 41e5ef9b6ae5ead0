"""Arguments of tritonserver, and a repository whose path it can read."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ._host import in_brackets
from ._profiles import loaded_models

ADMIN_KEY_NAME = "admin-key"  # of the header that carries the key
# The interfaces that change the server, as tritonserver's --http-restricted-api names them. Through
# model-repository a caller can send a model.py, which then runs as the server's user.
_ADMINISTRATION = ("shared-memory", "trace", "logging")
_MODEL_REPOSITORY = "model-repository"
_RESTRICTING = ("--http-restricted-api", "--grpc-restricted-protocol")


def new_key() -> str:
    """Return an unguessable key."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Launch:
    """One start of tritonserver.

    Attributes:
        binary: tritonserver.
        repository: the model repository, at a path without spaces.
        backends: the backend directory.
        host, ports: address to listen on; the ports of HTTP, gRPC and metrics.
        profile: name of the overlays to load, or None.
        load: models to load under explicit model control; None without model control.
        admin_key: key of the administrative interfaces.
        extra_args: of the caller.
        server_id: what the server answers to /v2; tells it from another server at the same port.
        shm_prefix: of its shared memory segments.
    """

    binary: Path
    repository: Path
    backends: Path
    host: str
    ports: tuple[int, int, int]
    profile: str | None
    load: Sequence[str] | None
    admin_key: str
    extra_args: Sequence[str]
    exit_timeout_s: int
    server_id: str = field(default_factory=lambda: f"lipsync-{secrets.token_hex(8)}")

    @property
    def shm_prefix(self) -> str:
        return self.server_id.replace("lipsync-", "lipsync_") + "_"

    def command(self) -> list[str]:
        """Return tritonserver's command line."""
        http, grpc, metrics = self.ports
        # libevent, which serves HTTP, takes IPv6 addresses by this prefix; gRPC takes them in brackets.
        http_host = f"ipv6:{self.host}" if ":" in self.host else self.host
        return [
            str(self.binary),
            f"--id={self.server_id}",
            f"--model-repository={self.repository}",
            f"--backend-directory={self.backends}",
            f"--backend-config=python,shm-region-prefix-name={self.shm_prefix}",
            f"--http-address={http_host}", f"--http-port={http}",
            f"--grpc-address={in_brackets(self.host)}", f"--grpc-port={grpc}",
            f"--metrics-address={http_host}", f"--metrics-port={metrics}",
            "--disable-auto-complete-config",
            # Else each of its gRPC handlers keeps the buffers of the largest response that it ever sent.
            "--grpc-infer-allocation-pool-size=0",
            f"--exit-timeout-secs={self.exit_timeout_s}",
            *([f"--model-config-name={self.profile}"] if self.profile is not None else []),
            *self._model_control(),
            *restrictions(self.admin_key, self.load is not None, self.extra_args),
            *self.extra_args,
        ]  # fmt: skip

    def _model_control(self) -> list[str]:
        if self.load is None:
            return ["--model-control-mode=none"]
        return ["--model-control-mode=explicit", *(f"--load-model={name}" for name in self.load)]


def restrictions(admin_key: str, model_control: bool, extra_args: Sequence[str]) -> list[str]:
    """Return the arguments that put the administrative interfaces behind a key.

    An interface that `extra_args` restrict for a protocol (`OPTION=NAME,NAME:KEY=VALUE`) is left to them for
    that protocol: tritonserver refuses to restrict one twice.
    """
    closed = [*_ADMINISTRATION, *([_MODEL_REPOSITORY] if model_control else [])]
    result = []
    for option in _RESTRICTING:
        lists = re.findall(rf"(?:^| ){option}[= ]([^: ]+):", " ".join(extra_args))
        own = {name for names in lists for name in names.split(",")}
        if wanted := ",".join(name for name in closed if name not in own):
            result.append(f"{option}={wanted}:{ADMIN_KEY_NAME}={admin_key}")
    return result


def linked_repository(scratch: Path, repository: Path, models: Sequence[str] | None) -> Path:
    """Return a link to a repository, or to some of its models with what their ensembles need.

    tritonserver passes a model's path to its Python processes in a shell command, which a space would part;
    and to load some models alone it would need its explicit control mode, which lets callers load more.

    Raises:
        ValueError: a model that the repository lacks.
    """
    link = scratch / "models"
    if models is None:
        link.symlink_to(repository)
        return link
    link.mkdir()
    for name in loaded_models(repository, models):
        if not (repository / name / "config.pbtxt").is_file():
            there = ", ".join(loaded_models(repository, None)) or "none"
            raise ValueError(f"there is no model {name!r}; there is: {there}")
        (link / name).symlink_to(repository / name)
    return link
