"""Measuring profiles of an avatar on an embedded server: speed, and the frames they give."""

from __future__ import annotations

import math
import os
import tempfile
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.embedded import embedded_server, speech
from lipsync_preprocessing.errors import ModelControlError
from lipsync_preprocessing.profiles.cpu_time import CpuTime, processes_of
from lipsync_preprocessing.profiles.files import make_profile
from lipsync_preprocessing.profiles.settings import ProfileSettings
from lipsync_preprocessing.repository import CONFIG, CONFIGS, Repository, Student

if TYPE_CHECKING:
    import psutil

    from lipsync_client import LipSyncClient

Frames = npt.NDArray[np.uint8]
_TRIAL = "trial"
_FRAMES_CHUNK = 8  # raw frames per request: one of 1280x720 has 2.8 MB
_RUNS = 2


@dataclass(frozen=True)
class Candidate:
    """A profile and the settings to try it with."""

    profile: str
    settings: ProfileSettings


@dataclass(frozen=True)
class Figures:
    """The measurements of a candidate.

    Attributes:
        fps: frames per second, of the best run to H.264.
        cpu_ms: CPU time per frame of the server's processes.
        psnr_db: against the first candidate's frames, in the pasted rectangle; infinite if they are equal.
        quiet: no other work took the cores meanwhile. If some did, `fps` means little; `cpu_ms` still does.
    """

    candidate: Candidate
    fps: float
    cpu_ms: float
    psnr_db: float
    quiet: bool


class Bench:
    """Measures candidates on one avatar with one clip.

    Args:
        store: the repository.
        name: of the avatar.
        seconds: length of the clip.
        startup_timeout_s: longest wait for a server.
        student: the one that is served, in the place of the avatar's own generator.
    """

    def __init__(
        self,
        store: Repository,
        name: str,
        seconds: float,
        startup_timeout_s: float = 120.0,
        student: Student | None = None,
    ) -> None:
        self._store, self._name, self._student = store, name, student
        self._seconds, self._startup_timeout_s = seconds, startup_timeout_s
        self._reference: Frames | None = None

    def measure(self, candidate: Candidate) -> Figures:
        """Return the figures of a server that renders the clip with the candidate.

        Raises:
            ModelControlError: the server does not start, or does not render.
        """
        with self._serving(candidate) as (clip, client, processes):
            frames = self._frames(clip, client)  # this run warms the server up, too
            if self._reference is None:
                self._reference = frames
            before, begun = CpuTime.now(processes), time.perf_counter()
            runs = [self._time(clip, client, None) for _ in range(_RUNS)]
            after, elapsed = CpuTime.now(processes), time.perf_counter() - begun
        count = sum(count for count, _ in runs)
        fps = max(count / seconds for count, seconds in runs)
        cpu_ms = (after.server - before.server) / count * 1000
        quiet = after.quiet_since(before, elapsed, cores())
        return Figures(candidate, fps, cpu_ms, psnr_db(frames, self._reference), quiet)

    def chunks(self, candidate: Candidate, sizes: list[int]) -> tuple[dict[int, float], bool]:
        """Return the frames per second by the number of frames in a client's request.

        The second value tells whether no other work took the cores meanwhile.
        """
        best = dict.fromkeys(sizes, 0.0)
        with self._serving(candidate) as (clip, client, processes):
            self._time(clip, client, None)
            before, begun = CpuTime.now(processes), time.perf_counter()
            for _ in range(_RUNS):  # alternating, so that other work affects all sizes alike
                for size in sizes:
                    count, seconds = self._time(clip, client, size)
                    best[size] = max(best[size], count / seconds)
            after, elapsed = CpuTime.now(processes), time.perf_counter() - begun
        return best, after.quiet_since(before, elapsed, cores())

    @contextmanager
    def _serving(
        self, candidate: Candidate
    ) -> Iterator[tuple[Path, LipSyncClient, list[psutil.Process]]]:
        from lipsync_client import LipSyncClient, LipSyncError

        server_class, embedded_error = embedded_server()
        with tempfile.TemporaryDirectory(prefix="lipsync-tune-") as folder:
            root, clip = Path(folder) / "models", Path(folder) / "clip.wav"
            self._link_models(root, candidate)
            rate = int(self._store.config(self._name).parameters["sample_rate"].string_value)
            _write_wave(clip, speech(rate, self._seconds), rate)
            try:
                with server_class(
                    root,
                    models=[self._name],
                    profile=_TRIAL,
                    startup_timeout_s=self._startup_timeout_s,
                ) as server:
                    processes = processes_of(server.pid)
                    with LipSyncClient(server.grpc_url) as client:
                        yield clip, client, processes
            except (embedded_error, LipSyncError) as error:
                lines = str(error).splitlines()
                line = next((line for line in lines if "ConfigError" in line), lines[0])
                raise ModelControlError(f"{self._name}: {candidate.profile}: {line}") from error

    def _link_models(self, root: Path, candidate: Candidate) -> None:
        """Make a repository of links to the avatar's models, with the candidate's configs."""
        steps = self._store.config(self._name).ensemble_scheduling.step
        for model in {self._name, *(step.model_name for step in steps)}:
            source, target = self._store.directory(model), root / model
            target.mkdir(parents=True)
            for path in source.iterdir():
                if path.name == CONFIG or path.name.isdecimal():
                    (target / path.name).symlink_to(path)
        profile, settings = candidate.profile, candidate.settings
        for file in make_profile(self._store, self._name, profile, settings, student=self._student):
            configs = root / file.model / CONFIGS
            configs.mkdir()
            (configs / f"{_TRIAL}.pbtxt").write_text(file.text)

    def _frames(self, clip: Path, client: LipSyncClient) -> Frames:
        """Return the clip's frames, cut to where patches are pasted."""
        from lipsync_client import RenderOptions

        with np.load(self._store.pack(self._name), allow_pickle=False) as arrays:
            rects = arrays["rects"]
        (left, top), (right, bottom) = rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)
        options = RenderOptions(output="FRAMES", chunk=_FRAMES_CHUNK)
        parts = [
            np.asarray(chunk.frames)[:, top:bottom, left:right]
            for chunk in client.render(clip, self._name, options)
        ]
        return np.concatenate(parts)

    def _time(self, clip: Path, client: LipSyncClient, chunk: int | None) -> tuple[int, float]:
        """Return the number of frames, and the seconds they took as H.264."""
        from lipsync_client import RenderOptions

        begun = time.perf_counter()
        chunks = client.render(clip, self._name, RenderOptions(chunk=chunk))
        count = sum(len(part.frames) for part in chunks)
        return count, time.perf_counter() - begun


def psnr_db(came: Frames, expected: Frames) -> float:
    """Return the peak signal-to-noise ratio of 8-bit images; infinite if they are equal."""
    error = float(np.mean((came.astype(np.float32) - expected.astype(np.float32)) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def cores() -> int:
    """Return the number of cores that this process, and a server that it starts, may use."""
    return len(os.sched_getaffinity(0))


def _write_wave(path: Path, samples: npt.NDArray[np.float32], rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
