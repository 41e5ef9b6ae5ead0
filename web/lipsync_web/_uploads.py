"""Uploaded audio: bounded on its way to a file, decoded in a thread."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import soxr
from anyio import to_thread
from numpy.typing import NDArray
from starlette.requests import Request

from lipsync_client import InputError
from lipsync_client._audio import AudioFile
from lipsync_client.protocol import SAMPLE_RATE

from ._problems import Problem
from ._tracks import AUDIO_RATE

_BLOCK = AUDIO_RATE // 5  # samples fed at once


async def save(blocks: AsyncIterator[bytes], folder: Path, max_bytes: int) -> tuple[Path, str]:
    """Write blocks to a new file in `folder` and return its path and the SHA-256 of its contents.

    Raises:
        Problem: there is nothing, or more than `max_bytes`.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix="upload-", delete=False) as file:
        path, size, digest = Path(file.name), 0, hashlib.sha256()
        try:
            async for block in blocks:
                size += len(block)
                if size > max_bytes:
                    raise too_large(max_bytes)
                file.write(block)
                digest.update(block)
            if not size:
                raise Problem(400, "The audio file is empty: send an audio or video file.")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path, digest.hexdigest()


async def save_body(request: Request, folder: Path, max_bytes: int) -> Path:
    """Write the body of a request to a new file in `folder` and return its path.

    Raises:
        Problem: the body is empty or larger than `max_bytes`.
    """
    path, _ = await save(request.stream(), folder, max_bytes)
    return path


async def read_bounded(request: Request, max_bytes: int, what: str) -> bytes:
    """Return the body of a request, which is short text.

    Args:
        request: its body has not been read.
        max_bytes: of the body.
        what: "An SDP body", for the message.

    Raises:
        Problem: the body is larger.
    """
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > max_bytes:
            raise Problem(413, f"{what} has at most {max_bytes >> 10} KiB.")
    return body


def too_large(max_bytes: int) -> Problem:
    """Return the problem of an upload that is larger than `max_bytes`."""
    return Problem(413, f"The audio file is larger than {max_bytes >> 20} MiB, the limit here.")


async def decode(path: Path, max_s: float) -> NDArray[np.float32]:
    """Return the audio of a file, mono float32 at `AUDIO_RATE`.

    Raises:
        InputError: the file is no audio.
        Problem: it is longer than `max_s` seconds.
    """
    return await to_thread.run_sync(_decode, path, max_s)


async def check(path: Path, max_s: float, track: int | None, strict: bool) -> float:
    """Decode a whole file and return its length in seconds.

    Raises:
        InputError: it is no audio; with `strict`, a part of it cannot be decoded.
        Problem: it is longer than `max_s` seconds.
    """
    try:
        return await to_thread.run_sync(_check, path, max_s, track, strict)
    except InputError as e:
        text = str(e).replace(f"{path}: ", "").replace(str(path), "the file")
        raise InputError(f"The audio file cannot be used: {text}") from e


def _check(path: Path, max_s: float, track: int | None, strict: bool) -> float:
    source = AudioFile(path, track=track, strict=strict)
    try:
        seconds = 0.0
        for block in source.blocks():
            seconds = _longer(seconds, block.size, max_s)
    finally:
        source.close()
    return seconds


def _longer(seconds: float, samples: int, max_s: float) -> float:
    seconds += samples / SAMPLE_RATE
    if seconds > max_s:
        raise Problem(413, f"The audio is longer than {max_s:g} s, the limit here.")
    return seconds


def _decode(path: Path, max_s: float) -> NDArray[np.float32]:
    parts: list[NDArray[np.float32]] = []
    resamplers: dict[int, soxr.ResampleStream] = {}  # the rate may change within a file

    def keep(frame: av.AudioFrame) -> None:
        mono = frame.to_ndarray().mean(axis=0, dtype=np.float32)
        if (rate := frame.sample_rate) not in resamplers:
            resamplers[rate] = soxr.ResampleStream(rate, AUDIO_RATE, 1, "float32", "HQ")
        parts.append(resamplers[rate].resample_chunk(mono))

    source = AudioFile(path, on_frame=keep)
    try:
        seconds = 0.0
        for block in source.blocks():
            seconds = _longer(seconds, block.size, max_s)
    finally:
        source.close()
    rest = np.zeros(0, np.float32)
    parts += [resampler.resample_chunk(rest, last=True) for resampler in resamplers.values()]
    return np.concatenate(parts)


async def in_blocks(samples: NDArray[np.float32]) -> AsyncIterator[NDArray[np.float32]]:
    """Yield samples in blocks of a fifth of a second."""
    for begin in range(0, len(samples), _BLOCK):
        yield samples[begin : begin + _BLOCK]
