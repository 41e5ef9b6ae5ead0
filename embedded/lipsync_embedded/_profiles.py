"""Execution profiles in a model repository: Triton's own `configs/NAME.pbtxt` beside a model's config."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# The steps of an ensemble in its config's text; the tests compare this with Triton's own reading.
_STEP = re.compile(r'\bmodel_name\s*:\s*"([^"]+)"')


def check_profile(repository: Path, models: Sequence[str] | None, profile: str) -> None:
    """Raise a ValueError that lists the profiles, if no model that would be loaded has this one.

    Args:
        models: those asked for; None for all of the repository.
    """
    having = profiles(repository, loaded_models(repository, models))
    if profile in having:
        return
    known = "; ".join(f"{name} ({', '.join(having[name])})" for name in sorted(having))
    raise ValueError(
        f"no model has the profile {profile!r}; there is: {known or 'none'}."
        " lipsync-avatar tune makes profiles"
    )


def loaded_models(repository: Path, models: Sequence[str] | None) -> list[str]:
    """Return the models that a server loads: all, or those named with what their ensembles need."""
    if models is None:
        return sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    found: list[str] = []
    waiting = list(models)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            config = repository / name / "config.pbtxt"
            if config.is_file():
                waiting += _STEP.findall(config.read_text(errors="replace"))
    return sorted(found)


def profiles(repository: Path, models: Iterable[str]) -> dict[str, list[str]]:
    """Return the models that have each profile."""
    having: dict[str, list[str]] = {}
    for name in models:
        for path in sorted((repository / name / "configs").glob("*.pbtxt")):
            having.setdefault(path.stem, []).append(name)
    return having
