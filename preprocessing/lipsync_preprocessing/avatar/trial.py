"""Trying an avatar: a second of audio through a real server, and a look at the frames."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.embedded import embedded_server, speech
from lipsync_preprocessing.errors import AvatarError, ModelControlError, ModelError
from lipsync_preprocessing.graphs.onnx_files import check_versions, read_proto
from lipsync_preprocessing.repository import GENERATOR, InstalledAvatar, Repository
from lipsync_preprocessing.repository.names import AUDIO_WINDOW

SECONDS = 1
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Trial:
    """The result of a trial.

    Attributes:
        frames: number of frames rendered.
        seconds: time they took once the server was ready.
        difference: mean difference between the frames for speech and those for silence, over the part
            that differs, in grey levels.
    """

    frames: int
    seconds: float
    difference: float


def try_avatar(repository: str | Path, name: str) -> Trial:
    """Load the avatar in the embedded server and render a second of speech and one of silence.

    Raises:
        AvatarError: it does not load, its frames are wrong, or its mouth does not follow the audio.
    """
    server_class, embedded_error = embedded_server()
    store = Repository(repository)
    avatar = store.avatar(name)
    if avatar.missing:
        raise ModelControlError(f"{name}: nothing to load in {', '.join(avatar.missing)}")
    _check_versions(store, avatar)
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
        raise ModelControlError(f"{name}: {error}") from error
    shape = (avatar.height, avatar.width, 3)
    wrong = next((f.shape for f in spoken if f.shape != shape), None)
    if wrong is not None:
        raise AvatarError(f"{name}: expected frames of {shape}, got {wrong}")
    if len(spoken) != len(silent) or len(spoken) < 2:
        raise AvatarError(
            f"{name}: expected as many frames for speech as for silence, got {len(spoken)} and {len(silent)}"
        )
    difference = float(np.mean([_difference(a, b) for a, b in zip(spoken, silent, strict=True)]))
    if difference == 0:
        raise AvatarError(
            f"{name}: speech and silence give the same frames: the generator ignores the audio"
        )
    return Trial(len(spoken), seconds, difference)


def _check_versions(store: Repository, avatar: InstalledAvatar) -> None:
    """Raise ModelError if a native server could not load a model: one of them stops the whole server."""
    for model in (avatar.name + GENERATOR, avatar.encoder, AUDIO_WINDOW):
        for version in store.versions(model):
            path = store.model_file(model, version)
            path = path / path.name if path.is_dir() else path
            try:
                check_versions(read_proto(path))
            except ModelError as error:
                raise ModelError(f"{path}: {error}") from error


def _render(
    client: tritonclient.grpc.InferenceServerClient, name: str, audio: npt.NDArray[np.float32]
) -> list[Image]:
    tensor = tritonclient.grpc.InferInput("AUDIO", list(audio.shape), "FP32")
    tensor.set_data_from_numpy(audio)
    outputs = [tritonclient.grpc.InferRequestedOutput("JPEG")]
    response = client.infer(name, [tensor], outputs=outputs, client_timeout=_TIMEOUT_S)
    jpegs = response.as_numpy("JPEG").reshape(-1)
    return [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs]


def _difference(a: Image, b: Image) -> float:
    difference = cv2.absdiff(a, b)
    rows, columns = np.nonzero(difference.max(axis=2))
    if not len(rows):
        return 0.0
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return float(difference[box].mean())
