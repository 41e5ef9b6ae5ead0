"""Trying an avatar out: a second of sound through a real server, and a look at the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from lipsync_preprocessing.errors import AvatarError, ServerError
from lipsync_preprocessing.repository import Repository

SECONDS = 1
_PITCH_HZ, _SYLLABLES_HZ = 140, 4
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Trial:
    """Frames rendered, seconds it took after the server was up, and what sound changes in a frame.

    `difference` is the mean over the changed rectangle, in grey levels, between the frames for
    a sound and those for silence.
    """

    frames: int
    seconds: float
    difference: float


def try_avatar(repository: str | Path, name: str) -> Trial:
    """Load the avatar in the embedded server and render a second with it, of sound and of silence.

    Raises:
        AvatarError: it does not load, answers wrongly, or does not hear.
    """
    server_class, embedded_error = embedded_server()
    store = Repository(repository)
    avatar = store.avatar(name)
    if avatar.missing:
        raise ServerError(f"{name}: nothing to load in {', '.join(avatar.missing)}")
    config = store.config(name)
    rate = int(config.parameters["sample_rate"].string_value)
    try:
        with server_class(store.root, models=[name]) as server:
            client = tritonclient.grpc.InferenceServerClient(
                server.grpc_url.removeprefix("grpc://")
            )
            try:
                started = time.monotonic()
                spoken = _render(client, name, speech(rate, SECONDS))
                seconds = time.monotonic() - started
                silent = _render(client, name, np.zeros(rate * SECONDS, np.float32))
            finally:
                client.close()
    except (embedded_error, InferenceServerException) as error:
        raise ServerError(f"{name}: {error}") from error
    shape = (avatar.height, avatar.width, 3)
    wrong = next((f.shape for f in spoken if f.shape != shape), None)
    if wrong is not None:
        raise AvatarError(f"{name}: expected frames of {shape}, got {wrong}")
    if len(spoken) != len(silent) or len(spoken) < 2:
        raise AvatarError(f"{name}: expected as many frames of sound as of silence, and some")
    difference = float(np.mean([_change(a, b) for a, b in zip(spoken, silent, strict=True)]))
    if difference == 0:
        raise AvatarError(f"{name}: sound and silence give the same frames: the audio is not heard")
    return Trial(len(spoken), seconds, difference)


def embedded_server() -> tuple[Any, Any]:
    """The embedded server's class and its exception; ServerError where it is not installed."""
    try:
        from lipsync_embedded import Server
        from lipsync_embedded import ServerError as EmbeddedError
    except ImportError as error:
        raise ServerError(
            "this needs the embedded server: pip install 'lipsync-triton[embedded]'"
        ) from error
    return Server, EmbeddedError


def _render(client: Any, name: str, audio: npt.NDArray[np.float32]) -> list[npt.NDArray[np.uint8]]:
    tensor = tritonclient.grpc.InferInput("AUDIO", list(audio.shape), "FP32")
    tensor.set_data_from_numpy(audio)
    wanted = [tritonclient.grpc.InferRequestedOutput("JPEG")]
    answer = client.infer(name, [tensor], outputs=wanted, client_timeout=_TIMEOUT_S)
    pictures = answer.as_numpy("JPEG").reshape(-1)
    return [cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_COLOR) for p in pictures]


def speech(rate: int, seconds: float) -> npt.NDArray[np.float32]:
    """A buzz with the rhythm of syllables: enough for a mouth to move."""
    t = np.arange(round(rate * seconds)) / rate
    buzz = sum(np.sin(2 * np.pi * _PITCH_HZ * n * t) / n for n in range(1, 20))
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * _SYLLABLES_HZ * t)
    return np.asarray(0.2 * buzz * envelope, np.float32)


def _change(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    difference = cv2.absdiff(a, b)
    rows, columns = np.nonzero(difference.max(axis=2))
    if not len(rows):
        return 0.0
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return float(difference[box].mean())
