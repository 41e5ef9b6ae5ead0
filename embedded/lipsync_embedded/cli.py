"""lipsync-server: a local Triton for a model repository, until it is told to stop."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from ._engines import engines_line, idle_gpu_advice
from ._errors import EmbeddedServerError
from ._host import address_of, is_loopback
from ._server import Server
from ._wheel import WheelError, find_wheel


class _Stopped(Exception):
    pass


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="lipsync-triton")
@click.option(
    "--repository", type=click.Path(path_type=Path, file_okay=False), envvar="LIPSYNC_REPOSITORY",
    help="Triton model repository; it is made if it is missing.  [default: one in your data folder]",
)  # fmt: skip
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Load only this model (with what it needs); may repeat.",
)
@click.option("--host", default="127.0.0.1", help="Name or address to listen on.")
@click.option(
    "--insecure", is_flag=True, help="Listen beyond this machine, where Triton lets everybody in."
)
@click.option("--http-port", default=8000, help="0 picks a free port.")
@click.option("--grpc-port", default=8001, help="0 picks a free port.")
@click.option("--metrics-port", default=8002, help="0 picks a free port.")
@click.option(
    "--profile",
    envvar="LIPSYNC_PROFILE",
    help="Run models that have this execution profile with it (lipsync-avatar tune makes them).",
)
@click.option(
    "--model-control",
    is_flag=True,
    help="Let callers who have the key load and unload avatars (lipsync-avatar add --load).",
)
@click.option(
    "--admin-key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the key of model control; without it a new key is printed.",
)
@click.option("--startup-timeout", default=120.0, help="Seconds to wait for every model.")
@click.option(
    "--log-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep tritonserver's log here.",
)
@click.argument("extra", nargs=-1, type=click.UNPROCESSED)
def main(
    repository: Path | None,
    models: tuple[str, ...],
    host: str,
    insecure: bool,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    profile: str | None,
    model_control: bool,
    admin_key_file: Path | None,
    startup_timeout: float,
    log_file: Path | None,
    extra: tuple[str, ...],
) -> None:
    """Run a real tritonserver on this machine, without Docker.

    Arguments after -- go to tritonserver as they are.
    """
    from lipsync_preprocessing.bundle import find_repository
    from lipsync_preprocessing.errors import AvatarError

    try:
        if not is_loopback(address_of(host)) and not insecure:
            raise click.UsageError(
                f"--host {host} lets every machine of the network call this server: Triton asks no caller for"
                " a token. Put the gateway of docker/ in front of it, or give --insecure to let everybody in."
            )
    except EmbeddedServerError as e:
        raise click.UsageError(str(e)) from None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        find_wheel()
        with Server(
            find_repository(repository, _say),
            models=models or None,
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            profile=profile,
            model_control=model_control,
            admin_key=admin_key_file.read_text().strip() if admin_key_file else None,
            startup_timeout_s=startup_timeout,
            log_file=log_file,
            extra_args=extra,
        ) as server:
            click.echo(f"ready: {server.grpc_url}  {server.http_url}  metrics {server.metrics_url}")
            if model_control and admin_key_file is None:
                click.echo(f"admin key: {server.admin_key}", err=True)
            engines = server.engines()
            click.echo(f"engines: {engines_line(engines)}", err=True)
            if profile is None and (advice := idle_gpu_advice(engines)):
                _say(advice)
            code = server.wait()
            click.echo(
                f"tritonserver ended by itself with exit code {code}:\n{server.log_tail()}",
                err=True,
            )
            sys.exit(1)
    except _Stopped:
        click.echo("stopped", err=True)
    except (AvatarError, EmbeddedServerError, WheelError) as e:
        _say(str(e))
        sys.exit(1)


def _say(line: str) -> None:
    click.echo(f"lipsync-server: {line}", err=True)
