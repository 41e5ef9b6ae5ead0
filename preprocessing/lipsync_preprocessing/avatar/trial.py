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

from lipsync_preprocessing.avatar.audio_fit import audio_fit
from lipsync_preprocessing.dataset.types import Image
from lipsync_preprocessing.embedded import embedded_server, speech
from lipsync_preprocessing.errors import AvatarError, ModelControlError, ModelError
from lipsync_preprocessing.graphs.onnx_files import check_versions, read_proto
from lipsync_preprocessing.model_control import grpc_client
from lipsync_preprocessing.repository import GENERATOR, InstalledAvatar, Repository
from lipsync_preprocessing.repository.names import AUDIO_WINDOW

Floats = npt.NDArray[np.float32]

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
    """Load the avatar in the embedded server, and render a second of speech and one of silence.

    Raises:
        AvatarError: it does not load, its frames are wrong, or its mouth does not follow the audio.
    """
    server_class, embedded_error = embedded_server()
    store = Repository(repository)
    avatar = store.avatar(name)
    if avatar.missing:
        raise ModelControlError(f"{name}: nothing to load in {', '.join(avatar.missing)}")
    _check_versions(store, avatar)
    rate = int(store.config(name).parameters["sample_rate"].string_value)
    clips = speech(rate, SECONDS), np.zeros(rate * SECONDS, np.float32)
    try:
        with server_class(store.root, models=[name]) as server:
            caller = _Caller(server.grpc_url)
            try:
                windows = [caller.audio_windows(avatar.encoder, clip) for clip in clips]
                started = time.monotonic()
                spoken = caller.render(name, clips[0])
                seconds = time.monotonic() - started
                silent = caller.render(name, clips[1])
            finally:
                caller.close()
    except (embedded_error, InferenceServerException) as error:
        raise ModelControlError(f"{name}: {error}") from error
    difference = _difference_of(avatar, spoken, silent)
    model = read_proto(_model_file(store, name + GENERATOR, avatar.versions[-1]))
    fit = audio_fit(model, *windows)
    if fit is not None:
        try:
            fit.check()
        except AvatarError as error:
            raise AvatarError(f"{name}: {error}") from error
    return Trial(len(spoken), seconds, difference)


class _Caller:
    """Requests to a server's models."""

    def __init__(self, url: str) -> None:
        self._client = grpc_client(url.removeprefix("grpc://"))

    def close(self) -> None:
        self._client.close()

    def render(self, avatar: str, audio: Floats) -> list[Image]:
        """Return the frames of a clip, by way of JPEG."""
        (jpegs,) = self._infer(avatar, {"AUDIO": audio}, ["JPEG"])
        return [
            cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs.flat
        ]

    def audio_windows(self, encoder: str, audio: Floats) -> Floats:
        """Return the generator's audio input for every frame of a clip, float32 [frames,32,16,16]."""
        windows, index = self._infer("mel", {"AUDIO": audio}, ["WINDOWS", "INDEX"])
        (embedding,) = self._infer(encoder, {"mel": windows}, ["embedding"])
        inputs = {"embedding": embedding, "index": index}
        return np.asarray(self._infer(AUDIO_WINDOW, inputs, ["audio"])[0], np.float32)

    def _infer(
        self, model: str, inputs: dict[str, npt.NDArray[np.generic]], outputs: list[str]
    ) -> list[npt.NDArray[np.generic]]:
        tensors = []
        for name, array in inputs.items():
            kind = {"float32": "FP32", "int64": "INT64"}[array.dtype.name]
            tensor = tritonclient.grpc.InferInput(name, list(array.shape), kind)
            tensors.append(tensor.set_data_from_numpy(array))
        wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in outputs]
        response = self._client.infer(model, tensors, outputs=wanted, client_timeout=_TIMEOUT_S)
        return [response.as_numpy(name) for name in outputs]


def _check_versions(store: Repository, avatar: InstalledAvatar) -> None:
    """Raise ModelError if a native server could not load a model: one of them stops the whole server."""
    for model in (avatar.name + GENERATOR, avatar.encoder, AUDIO_WINDOW):
        for version in store.versions(model):
            path = _model_file(store, model, version)
            try:
                check_versions(read_proto(path))
            except ModelError as error:
                raise ModelError(f"{path}: {error}") from error


def _model_file(store: Repository, model: str, version: int) -> Path:
    path = store.model_file(model, version)
    return path / path.name if path.is_dir() else path


def _difference_of(avatar: InstalledAvatar, spoken: list[Image], silent: list[Image]) -> float:
    """Return how much speech changes the frames; raise AvatarError if they are wrong, or not at all."""
    name, shape = avatar.name, (avatar.height, avatar.width, 3)
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
    return difference


def _difference(a: Image, b: Image) -> float:
    difference = cv2.absdiff(a, b)
    rows, columns = np.nonzero(difference.max(axis=2))
    if not len(rows):
        return 0.0
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return float(difference[box].mean())
