"""The `lipsync-web` command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import uvicorn

from ._app import create_app
from ._job_options import worker_options
from ._settings import USUAL_MAX_SESSIONS, IceServer, WebSettings
from .jobs.files import FilesUnreachable
from .jobs.settings import JobSettings, WorkerSettings
from .jobs.store import StoreUnreachable
from .jobs.worker import run

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _ice_servers(
    _: click.Context, __: click.Parameter, values: tuple[str, ...]
) -> tuple[IceServer, ...]:
    servers = []
    for value in values:
        address, *login = value.split(",")
        if not address.startswith(("stun:", "turn:", "turns:")) or len(login) not in (0, 2):
            raise click.BadParameter(
                f"expected stun:HOST:PORT or turn:HOST:PORT,USERNAME,CREDENTIAL; got {value!r}"
            )
        servers.append(IceServer(address, *login))
    return tuple(servers)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@worker_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="Port to listen on.")
@click.option("--token-file", type=_FILE, help="File with the token that callers must send.")
@click.option(
    "--callers-file",
    type=_FILE,
    help="The gateway's callers.map: callers with tokens of their own.",
)
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without a token.")
@click.option(
    "--certificate",
    type=_FILE,
    help="PEM of a certificate, for HTTPS. Browsers give the microphone to localhost and HTTPS alone.",
)
@click.option("--key", type=_FILE, help="PEM of the certificate's key, if it is in another file.")
@click.option(
    "--ice-server",
    "ice_servers",
    multiple=True,
    callback=_ice_servers,
    help="stun:HOST:PORT or turn:HOST:PORT,USERNAME,CREDENTIAL; may be repeated.",
)
@click.option(
    "--max-sessions",
    type=click.IntRange(1),
    help="Live sessions at once.  [default: as many as the avatar's profile carries, or"
    f" {USUAL_MAX_SESSIONS}]",
)
@click.option(
    "--workers",
    default=JobSettings.workers,
    show_default=True,
    type=click.IntRange(0),
    help="Worker processes to start; each renders one job at a time.",
)
@click.option(
    "--max-jobs",
    default=JobSettings.max_jobs,
    show_default=True,
    type=click.IntRange(1),
    help="Jobs that wait or run.",
)
@click.option(
    "--max-caller-jobs",
    default=JobSettings.max_caller_jobs,
    show_default=True,
    type=click.IntRange(1),
    help="Those of one caller.",
)
@click.option(
    "--max-upload",
    "max_upload_mib",
    default=WebSettings.max_upload_bytes >> 20,
    show_default=True,
    type=click.IntRange(1),
    help="Size of an audio file in MiB.",
)
@click.option(
    "--max-audio",
    "max_audio_s",
    default=WebSettings.max_audio_s,
    show_default=True,
    type=click.FloatRange(1),
    help="Length of an audio file in seconds.",
)
@click.option(
    "--allow-url-host",
    "url_hosts",
    multiple=True,
    help="A host that audio may be fetched from, or *.example.org; may be repeated.  [default: none]",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Serve /metrics there too, without a token.",
)
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Serve a web page, WebRTC (WHEP, WHIP) and jobs for the avatars of a lip-sync server.

    lipsync-web worker starts a further worker for the jobs.
    """
    if context.invoked_subcommand is None:
        _serve(**options)


def _serve(worker: WorkerSettings, host: str, port: int, token_file: Path | None,
           callers_file: Path | None, insecure: bool, certificate: Path | None, key: Path | None,
           ice_servers: tuple[IceServer, ...], max_sessions: int | None, workers: int, max_jobs: int,
           max_caller_jobs: int, max_upload_mib: int, max_audio_s: float, url_hosts: tuple[str, ...],
           metrics_port: int | None) -> None:  # fmt: skip
    """Serve until a signal."""
    token = token_file.read_text().strip() if token_file else None
    known = token is not None or callers_file is not None
    if host not in ("127.0.0.1", "localhost", "::1") and not known and not insecure:
        raise click.UsageError(
            f"--host {host} lets other machines in: give a --token-file or a --callers-file, or --insecure"
            " to let everybody in."
        )
    jobs = replace(
        worker.jobs, workers=workers, max_jobs=max_jobs, max_caller_jobs=max_caller_jobs,
        url_hosts=tuple(name.lower() for name in url_hosts),
    )  # fmt: skip
    settings = WebSettings(
        worker.url, worker.token, worker.ca_file, token, ice_servers, max_sessions=max_sessions,
        max_upload_bytes=max_upload_mib << 20, max_audio_s=max_audio_s, callers_file=callers_file,
        jobs=jobs, metrics_port=metrics_port,
    )  # fmt: skip
    scheme = "https" if certificate else "http"
    click.echo(f"Open {scheme}://{'localhost' if host == '127.0.0.1' else host}:{port}/", err=True)
    with _one_sentence():
        app = create_app(settings)
    uvicorn.run(
        app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5,
        ssl_certfile=certificate, ssl_keyfile=key,
    )  # fmt: skip
    sys.exit(0)


@main.command()
@worker_options
def worker(worker: WorkerSettings) -> None:
    """Render the jobs of a lipsync-web with the same --folder, or --queue and --files."""
    logging.basicConfig(level=logging.WARNING, format="lipsync-web worker: %(message)s")
    with _one_sentence():
        run(worker)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn an error of the settings into one line and exit code 1."""
    try:
        yield
    except ModuleNotFoundError as e:
        extra = {"redis": "redis", "s3fs": "s3"}.get(e.name or "")
        if extra is None:
            raise
        raise click.ClickException(
            f"this needs the package {e.name!r}: pip install 'lipsync-triton[{extra}]'"
        ) from e
    except (FilesUnreachable, StoreUnreachable, ValueError) as e:
        raise click.ClickException(str(e)) from e


if __name__ == "__main__":
    main()
