"""The avatar command in this process, and what it writes about profiles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from lipsync_preprocessing.cli import main
from lipsync_preprocessing.repository import Repository

SERVER = str(Path(sys.executable).with_name("lipsync-server"))


HAS_GPU = Path("/proc/driver/nvidia/version").exists()


def encoder_of(repository: Path, name: str = "anna") -> str:
    return Repository(repository).avatar(name).encoder


def run(repository: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--repository", str(repository)])


def done(repository: Path, *arguments: object) -> str:
    result = run(repository, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def config(path: Path) -> Any:
    return text_format.Parse(path.read_text(), ModelConfig())


def parameter(config: Any, name: str) -> str:
    return str(config.parameters[name].string_value)


def profile_files(repository: Path) -> dict[str, Path]:
    """By model."""
    return {p.parents[1].name: p for p in sorted(repository.glob("*/configs/*.pbtxt"))}
