"""Choosing an execution profile for this machine by measuring it."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lipsync_preprocessing.embedded import embedded_server
from lipsync_preprocessing.errors import AvatarError, ModelControlError
from lipsync_preprocessing.profiles.files import write_profile
from lipsync_preprocessing.profiles.live_sessions import (
    live_sessions_line,
    measured_live_sessions,
)
from lipsync_preprocessing.profiles.measuring import Bench, Candidate, Figures, cores
from lipsync_preprocessing.profiles.settings import (
    ONNXRUNTIME,
    OPENVINO_BF16,
    OPENVINO_F32,
    ProfileSettings,
)
from lipsync_preprocessing.repository import Repository, Student

AUTO = "auto"
PSNR_FLOOR_DB = 50.0
SECONDS = 2.0
_WORTH = 1.03  # factor by which a setting that costs processes or memory must be faster
_CHUNKS = (8, 16, 32)
_BUSY = "the machine was busy with other work"

Say = Callable[[str], None]


def tune(
    repository: str | Path,
    name: str,
    profile: str,
    settings: ProfileSettings,
    *,
    psnr_floor_db: float = PSNR_FLOOR_DB,
    seconds: float = SECONDS,
    student: Student | None = None,
    say: Say = print,
) -> list[Path]:
    """Measure a CPU profile's settings on this machine, and write the best; return the files.

    Args:
        repository: the model repository.
        name: of the avatar.
        profile: one that runs on a CPU, or "auto": the fastest of the exact ones.
        settings: what is not measured, such as the cache's size; `live_sessions` is, where it is None.
        psnr_floor_db: bf16 is refused if its frames differ more than this from f32's.
        seconds: length of the clip that is rendered.
        student: the one to measure and serve, in the place of the avatar's own generator.
        say: called with each line of the table.

    Raises:
        AvatarError: no server renders with the profile, or it is refused; nothing was written.
    """
    store = Repository(repository)
    avatar = store.avatar(name)
    if avatar.missing:
        raise ModelControlError(f"{name}: nothing to load in {', '.join(avatar.missing)}")
    bench = Bench(store, name, seconds, student=student)
    measured = _measure_all(bench, profile, settings, say)
    quiet = all(figures.quiet for figures in measured)
    if not quiet:
        say(f"{_BUSY}: the choice is by CPU time; measure again when it is quiet")
    best = _best(measured, profile, quiet)
    if best.candidate.profile == OPENVINO_BF16 and best.psnr_db < psnr_floor_db:
        raise AvatarError(
            f"{name}: {best.candidate.profile} refused: expected frames of at least {psnr_floor_db:g} dB PSNR"
            f" against f32, got {best.psnr_db:.1f}; it made {best.fps:.1f} frames per second, f32"
            f" {measured[0].fps:.1f}"
        )
    if quiet and cores() > 1:
        best = _with_more_instances(bench, best, say)
    limit = int(store.config(name).parameters["max_frames"].string_value)
    chunks, still_quiet = bench.chunks(best.candidate, [n for n in _CHUNKS if n <= limit])
    rates = ", ".join(f"{size}: {fps:.1f}" for size, fps in chunks.items())
    say(f"frames per second by frames per request: {rates}")
    chunk = max(chunks, key=lambda size: chunks[size]) if quiet else None
    say(f"choice: {_label(best.candidate)}{f'; for clients: --chunk {chunk}' if chunk else ''}")
    faster = max(measured, key=_rank(quiet))
    if profile == AUTO and faster.candidate.profile == OPENVINO_BF16:
        psnr = _db(faster.psnr_db)
        say(f"{OPENVINO_BF16} is faster and not exact ({psnr} dB): name it to choose it")
    sessions, why = settings.live_sessions, "Live sessions: as --live-sessions said."
    if sessions is None and quiet and still_quiet:
        sessions, why = measured_live_sessions(chunks)
    say(
        live_sessions_line(
            sessions, f"{_BUSY}: measure again when it is quiet, or give --live-sessions"
        )
    )
    note = _note(best, chunk) + (f"\n{why}" if sessions else "")
    chosen = replace(best.candidate.settings, live_sessions=sessions)
    return write_profile(repository, name, best.candidate.profile, chosen, note, student)


def _measure_all(bench: Bench, profile: str, settings: ProfileSettings, say: Say) -> list[Figures]:
    """Return the figures of the engines; with "auto", one that does not start is left out."""
    say(f"{'':<44}{'FPS':>7}{'CPU ms per frame':>18}{'PSNR dB':>10}")
    measured: list[Figures] = []
    for candidate in _engines(profile, settings):
        try:
            measured.append(_measure(bench, candidate, say))
        except ModelControlError as error:
            if profile != AUTO or not measured:
                raise
            say(f"{_label(candidate):<44}  left out: {error}")
    return measured


def _with_more_instances(bench: Bench, best: Figures, say: Say) -> Figures:
    """Try two generators, then two compositors; return the best that is worth its memory."""
    for field in ("generators", "compositors"):
        settings = best.candidate.settings
        more = (
            replace(settings, generators=2)
            if field == "generators"
            else replace(settings, compositors=2)
        )
        tried = _measure(bench, Candidate(best.candidate.profile, more), say)
        if tried.fps > _WORTH * best.fps:
            best = tried
    return best


def _note(best: Figures, chunk: int | None) -> str:
    """Return the measurements, for the head of the profile's file."""
    speed = f"{best.fps:.1f} frames per second, {best.cpu_ms:.1f} CPU ms per frame"
    note = f"Measured on {cores()} cores: {speed}"
    note += "." if best.quiet else f";\n{_BUSY}."
    if best.candidate.profile == OPENVINO_BF16:
        note += f"\nPSNR against f32, in the pasted rectangle: {_db(best.psnr_db)} dB."
    if chunk:
        note += f"\nFastest with {chunk} frames per request: lipsync-client --chunk {chunk}."
    return note


def _engines(profile: str, settings: ProfileSettings) -> list[Candidate]:
    """Return the engines to try; the frames of the others are compared with the first one's."""
    embedded_server()  # raises an error without it
    from lipsync_embedded.accelerator import cpu_has_bf16

    openvino = importlib.util.find_spec("openvino") is not None
    counts = sorted({1, cores()})
    threads = [Candidate(ONNXRUNTIME, replace(settings, threads=n)) for n in counts]
    plain = Candidate(OPENVINO_F32, settings)
    half = Candidate(OPENVINO_BF16, settings)
    if profile == ONNXRUNTIME:
        return threads
    if profile == OPENVINO_F32:
        return [plain]
    if profile == OPENVINO_BF16:
        return [plain, half]
    return [
        *threads,
        *([plain] if openvino else []),
        *([half] if openvino and cpu_has_bf16() else []),
    ]


def _best(measured: list[Figures], profile: str, quiet: bool) -> Figures:
    exact = [f for f in measured if f.candidate.profile != OPENVINO_BF16]
    allowed = exact if profile == AUTO else [f for f in measured if f.candidate.profile == profile]
    return max(allowed, key=_rank(quiet))


def _rank(quiet: bool) -> Callable[[Figures], float]:
    return lambda figures: figures.fps if quiet else -figures.cpu_ms


def _measure(bench: Bench, candidate: Candidate, say: Say) -> Figures:
    figures = bench.measure(candidate)
    label = _label(candidate)
    say(f"{label:<44}{figures.fps:>7.1f}{figures.cpu_ms:>18.1f}{_db(figures.psnr_db):>10}")
    return figures


def _label(candidate: Candidate) -> str:
    settings, usual = candidate.settings, ProfileSettings()
    words = [candidate.profile]
    if candidate.profile == ONNXRUNTIME:
        words.append(f"{settings.threads} thread{'s' if settings.threads > 1 else ''} per frame")
    elif settings.visual_cache_mb:
        words.append(f"cache {settings.visual_cache_mb} MiB")
    for field in ("generators", "compositors"):
        if getattr(settings, field) != getattr(usual, field):
            words.append(f"{getattr(settings, field)} {field}")
    return ", ".join(words)


def _db(psnr: float) -> str:
    return "equal" if math.isinf(psnr) else f"{psnr:.1f}"
