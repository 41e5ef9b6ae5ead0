"""The command lipsync-client as a process, and the files it may leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [CLIENT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]


def left_behind(directory: Path) -> list[str]:
    return sorted(
        p.name for p in directory.iterdir() if ".partial" in p.name or p.name == "out.mp4"
    )
