"""The `lipsync-web` command."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import uvicorn

from ._app import create_app
from ._settings import IceServer, WebSettings


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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--url",
    default="grpc://127.0.0.1:8001",
    envvar="LIPSYNC_URL",
    show_default=True,
    help="The lip-sync server, or several with commas between them.",
)
@click.option(
    "--server-token", envvar="LIPSYNC_TOKEN", help="Bearer token for the server's gateway."
)
@click.option(
    "--server-ca-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM of the authority that signed the gateway's certificate.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="Port to listen on.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the token that callers must send.",
)
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without a token.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM of a certificate, for HTTPS. Browsers give the microphone to localhost and HTTPS alone.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM of the certificate's key.",
)
@click.option(
    "--ice-server",
    "ice_servers",
    multiple=True,
    callback=_ice_servers,
    help="stun:HOST:PORT or turn:HOST:PORT,USERNAME,CREDENTIAL; may be repeated.",
)
@click.option(
    "--max-sessions",
    default=WebSettings.max_sessions,
    show_default=True,
    type=click.IntRange(1),
    help="Live sessions at once.",
)
def main(url: str, server_token: str | None, server_ca_file: Path | None, host: str, port: int,
         token_file: Path | None, insecure: bool, certificate: Path | None, key: Path | None,
         ice_servers: tuple[IceServer, ...], max_sessions: int) -> None:  # fmt: skip
    """Serve a web page and WebRTC (WHEP, WHIP) for the avatars of a lip-sync server."""
    token = token_file.read_text().strip() if token_file else None
    if host not in ("127.0.0.1", "localhost", "::1") and token is None and not insecure:
        raise click.UsageError(
            f"--host {host} lets other machines in: give a --token-file, or --insecure to let everybody in."
        )
    settings = WebSettings(
        url, server_token, server_ca_file, token, ice_servers, max_sessions=max_sessions
    )
    scheme = "https" if certificate else "http"
    click.echo(f"Open {scheme}://{'localhost' if host == '127.0.0.1' else host}:{port}/", err=True)
    uvicorn.run(
        create_app(settings), host=host, port=port, log_level="warning", timeout_graceful_shutdown=5,
        ssl_certfile=certificate, ssl_keyfile=key,
    )  # fmt: skip
    sys.exit(0)


if __name__ == "__main__":
    main()
