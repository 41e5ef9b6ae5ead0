"""The entry point of `lipsync-web`, which says what is missing where the extra `web` is not installed."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or name the extra that it needs and end with exit code 1."""
    try:
        from .cli import main as command
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("lipsync"):
            raise
        print(
            f"lipsync-web needs the package {e.name!r}, which is not installed:"
            " pip install 'lipsync-triton[web]'",
            file=sys.stderr,
        )
        sys.exit(1)
    command()
