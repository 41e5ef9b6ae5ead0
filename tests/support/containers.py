"""The containers of docker/ without a container engine.

Each command runs with exactly the environment that the engine would give it, and finds the files that the
image copies and Compose mounts at their paths; only that these paths lie under a folder of the test.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from support.replicas import ROOT

DOCKER = ROOT / "docker"
# An address of its own for each process, so that several checkouts can be tested at once.
CONTAINER_HOST = f"127.9.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


class _Loader(yaml.SafeLoader):
    """YAML with Compose's own tags."""


_Loader.add_constructor("!reset", lambda *_: None)
_Loader.add_constructor(
    "!override", lambda loader, node: loader.construct_sequence(node, deep=True)
)


def compose_service(name: str, *files: str, variables: dict[str, str] | None = None) -> Any:
    """Return a service of docker/compose.yaml, overridden by further files, with variables replaced."""
    service: dict[str, Any] = {}
    for file in ("compose.yaml", *files):
        document = yaml.load((DOCKER / file).read_text(), _Loader)
        for key, value in document["services"][name].items():
            merge = isinstance(value, dict) and isinstance(service.get(key), dict)
            service[key] = service[key] | value if merge else value
    return _interpolated(service, variables or {})


def compose_secrets() -> dict[str, str]:
    """Return the file of each secret, relative to docker/."""
    secrets = yaml.safe_load((DOCKER / "compose.yaml").read_text())["secrets"]
    return {name: entry["file"] for name, entry in secrets.items()}


def _interpolated(value: Any, variables: dict[str, str]) -> Any:
    """Replace variables in every text, after parsing: as Compose does, an empty one is "" and not null."""
    if isinstance(value, dict):
        return {key: _interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, variables) for item in value]
    if isinstance(value, str):
        variable = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
        return variable.sub(lambda found: variables.get(found[1]) or found[2] or "", value)
    return value


class Image:
    """The last stage of a Dockerfile.

    Attributes:
        environment: its ENV.
        entrypoint, healthcheck: the commands, in exec form.
        copies: target by source, of what comes from the repository.
    """

    def __init__(self, dockerfile: str) -> None:
        text = (DOCKER / dockerfile).read_text().replace("\\\n", " ")
        last = text[text.rindex("\nFROM ") :].splitlines()
        lines = [re.sub(r"\s+", " ", line.strip()) for line in last]
        self.environment: dict[str, str] = {}
        self.entrypoint: list[str] = []
        self.healthcheck: list[str] = []
        self.copies: dict[str, str] = {}
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "ENV":
                self.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            elif word == "ENTRYPOINT":
                self.entrypoint = json.loads(rest)
            elif word == "HEALTHCHECK":
                self.healthcheck = json.loads(rest.partition("CMD ")[2])
            elif word == "COPY" and "--from" not in rest:
                *_, source, target = shlex.split(rest)
                self.copies[source] = target


class Container:
    """A container of an image and a Compose service; nothing runs until a command is started.

    Args:
        folder: the test's folder, which holds the container's paths.
        image: the image, or None for one that is not ours.
        service: the Compose service.
        secrets: the folder docker/secrets of the test.
        environment: further variables, such as `docker run -e` sets them; their paths are the host's.
    """

    def __init__(
        self,
        folder: Path,
        image: Image | None,
        service: dict[str, Any],
        secrets: Path,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.log = folder, folder / "log"
        self._mounted = ["/tmp"]
        (folder / "tmp").mkdir(parents=True)
        for source, target in (image.copies if image else {}).items():
            self._mount(ROOT / source, target)
        if image:
            self._mount(Path(sys.prefix), "/opt/lipsync/venv")
        for entry in service.get("volumes", []):
            source, target, *_ = entry.split(":")
            if source.startswith("./secrets/"):
                self._mount(secrets / source.removeprefix("./secrets/"), target)
            elif source.startswith((".", "/")):
                self._mount(DOCKER / source, target)
            else:  # a named volume
                (folder / target.strip("/")).mkdir(parents=True)
                self._mounted.append(target)
        files = compose_secrets()
        for name in service.get("secrets", []):
            self._mount(secrets / Path(files[name]).name, f"/run/secrets/{name}")
        inside = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        inside |= {"HOME": "/home/nobody", "HOSTNAME": "container"}
        inside |= (image.environment if image else {}) | service.get("environment", {})
        self.environment = {key: self.path(str(value)) for key, value in inside.items()}
        self.environment |= environment or {}

    def path(self, text: str) -> str:
        """Return a text in which the container's own paths are replaced by those of the test's folder."""
        targets = "|".join(re.escape(target) for target in self._mounted)
        return re.sub(rf"(?<![\w.~-])({targets})(?=[/:\s]|$)", rf"{self.folder}\1", text)

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start the main command in a process group of its own; its output goes to `log`."""
        with self.log.open("wb") as out:
            return subprocess.Popen(
                [self.path(part) for part in command],
                env=self.environment,
                cwd="/",
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end beside the main command, as a health check is."""
        return subprocess.run(
            [self.path(part) for part in command],
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
        )

    def _mount(self, source: Path, target: str) -> None:
        target = target.rstrip("/")
        place = self.folder / target.strip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            place.symlink_to(source.resolve())
        else:
            place.write_bytes(source.read_bytes())
            place.chmod(source.stat().st_mode)
        self._mounted.append(target)
