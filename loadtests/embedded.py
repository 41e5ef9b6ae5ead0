"""Run a short load test of the demo avatar on an embedded server; write out/loadtest.html and its figures.

    python loadtests/embedded.py [--repository DIR] [--seconds 60] [--users 3] [LOCUST OPTIONS AND CLASSES]

Locust's options and user classes replace the default ones: `... GrpcLive --max-late-ratio 0`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from lipsync_embedded import Server
from lipsync_preprocessing.bundle import find_repository

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
# Without the live viewers, whose 25 frames a second may be more than this machine can make.
DEFAULTS = ["GrpcClips", "HttpClips", "StreamClips", "--max-failure-ratio", "0", "--min-fps", "1"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--repository", type=Path, help="Model repository.  [default: this checkout's]")
@click.option("--seconds", type=click.IntRange(min=1), default=60)
@click.option("--users", type=click.IntRange(min=1), default=3)
@click.option("--out", type=Path, default=ROOT / "out", help="Folder for the report.")
@click.argument("locust", nargs=-1, type=click.UNPROCESSED)
def main(
    repository: Path | None, seconds: int, users: int, out: Path, locust: tuple[str, ...]
) -> None:
    """Run Locust against an embedded server, and end with its exit code."""
    out.mkdir(parents=True, exist_ok=True)
    report = out / "loadtest.html"
    click.echo("starting the server ...", err=True)
    with Server(find_repository(repository, click.echo)) as server:
        command = [
            sys.executable, "-m", "locust", "--headless", "--only-summary",
            "--locustfile", str(HERE / "locustfile.py"),
            "--users", str(users), "--spawn-rate", str(users),
            "--run-time", f"{seconds}s", "--stop-timeout", "10s",
            "--host", "127.0.0.1", "--grpc-url", server.grpc_url, "--http-url", server.http_url,
            "--metrics-url", server.metrics_url,
            "--html", str(report), "--csv", str(out / "loadtest"),
            "--summary", str(out / "loadtest.json"),
            *(locust or DEFAULTS),
        ]  # fmt: skip
        with subprocess.Popen(command) as process:
            try:
                code = process.wait()
            except KeyboardInterrupt:  # Locust receives it too, and writes its report
                code = process.wait()
    click.echo(f"The report: {report}")
    sys.exit(code)


if __name__ == "__main__":
    main()
