"""Options of `lipsync-web` and `lipsync-web worker` about the server and the jobs."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from platformdirs import user_data_path

from .jobs.settings import JobSettings, WorkerSettings
from .jobs.webhook import parse_secret


def _networks(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as e:
            raise click.BadParameter(f"expected a network such as 10.0.0.0/8: {e}") from e
    return values


def _queue(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith(("redis://", "rediss://")):
        raise click.BadParameter(f"expected redis://HOST:PORT/NUMBER, got {value!r}")
    return value


def _secret(path: Path | None) -> str | None:
    """Return the secret in a file.

    Raises:
        click.BadParameter: it is none.
    """
    if path is None:
        return None
    text = path.read_text().strip()
    try:
        parse_secret(text)
    except ValueError as e:
        raise click.BadParameter(f"{path}: {e}", param_hint="--webhook-secret-file") from e
    return text


_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_OPTIONS = (
    click.option(
        "--url", default="grpc://127.0.0.1:8001", envvar="LIPSYNC_URL", show_default=True,
        help="The lip-sync server, or several with commas between them.",
    ),
    click.option(
        "--server-token", envvar="LIPSYNC_TOKEN", help="Bearer token for the server's gateway."
    ),
    click.option(
        "--server-ca-file", type=_FILE,
        help="PEM of the authority that signed the gateway's certificate.",
    ),
    click.option(
        "--folder", type=click.Path(path_type=Path, file_okay=False), envvar="LIPSYNC_JOBS_FOLDER",
        help="Folder of the jobs' database and files.  [default: one in your data folder]",
    ),
    click.option(
        "--queue", envvar="LIPSYNC_JOBS_QUEUE", callback=_queue,
        help="redis://HOST:PORT/NUMBER, for workers on many machines.  [default: SQLite in the folder]",
    ),
    click.option(
        "--files", envvar="LIPSYNC_JOBS_FILES",
        help="Where uploads and videos are: a folder, or an object store such as s3://BUCKET/PREFIX."
        "  [default: in the folder]",
    ),
    click.option(
        "--retention", "retention_h", type=click.FloatRange(0.01), show_default=True,
        default=JobSettings.retention_s / 3600, help="Hours that an ended job and its video are kept.",
    ),
    click.option(
        "--lease", "lease_s", type=click.FloatRange(2), show_default=True, default=JobSettings.lease_s,
        help="Seconds of silence after which a worker is taken for dead.",
    ),
    click.option(
        "--webhook-secret-file", envvar="LIPSYNC_WEBHOOK_SECRET_FILE", type=_FILE,
        help="File with whsec_BASE64, the key that signs webhooks.  [default: no webhooks]",
    ),
    click.option(
        "--allow-network", "networks", multiple=True, callback=_networks,
        help="A network that is not public and that callers' URLs may lead to; may be repeated.",
    ),
)  # fmt: skip


def worker_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which receives them as `worker`."""

    @functools.wraps(command)
    def with_settings(
        url: str, server_token: str | None, server_ca_file: Path | None, folder: Path | None,
        queue: str | None, files: str | None, retention_h: float, lease_s: float,
        webhook_secret_file: Path | None, networks: tuple[str, ...], **rest: Any,
    ) -> None:  # fmt: skip
        folder = folder or user_data_path("lipsync-triton", appauthor=False) / "jobs"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise click.ClickException(f"{folder} cannot be made: {e.strerror}") from e
        jobs = JobSettings(
            folder.absolute(), queue, files, retention_s=retention_h * 3600, lease_s=lease_s,
            webhook_secret=_secret(webhook_secret_file), networks=networks,
        )  # fmt: skip
        command(worker=WorkerSettings(jobs, url, server_token, server_ca_file), **rest)

    wrapped: Callable[..., None] = with_settings
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
