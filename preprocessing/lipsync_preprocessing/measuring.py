"""An avatar on an embedded server of its own: how fast a profile is, and what it draws."""

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
from typing import Any

import numpy as np
import numpy.typing as npt

from lipsync_preprocessing.errors import ServerError
from lipsync_preprocessing.overlays import Settings
from lipsync_preprocessing.profiles import make_profile
from lipsync_preprocessing.repository import COMPOSITOR, CONFIG, CONFIGS, PACK, Repository
from lipsync_preprocessing.trial import embedded_server, speech

Frames = npt.NDArray[np.uint8]
_TRIAL = "trial"
_FRAMES_CHUNK = 8  # of raw frames: a 1280x720 one is 2.8 MB
_RUNS = 2
_QUIET = 0.9  # of our cores, left free by others


@dataclass(frozen=True)
class Candidate:
    """A profile and the settings to try it with."""

    profile: str
    settings: Settings


@dataclass(frozen=True)
class Figures:
    """What a candidate came to.

    Attributes:
        fps: frames a second, of the best run to H.264.
        cpu_ms: CPU time a frame of the server's processes.
        psnr_db: against the first candidate's frames, in the pasted rectangle; infinite for equal ones.
        quiet: nothing else wanted the cores meanwhile. If not, `fps` says little; `cpu_ms` still does.
    """

    candidate: Candidate
    fps: float
    cpu_ms: float
    psnr_db: float
    quiet: bool


class Bench:
    """Measures candidates on one avatar with one clip.

    Args:
        seconds: length of the clip.
        startup_timeout_s: longest wait for a server.
    """

    def __init__(
        self, store: Repository, name: str, seconds: float, startup_timeout_s: float = 120.0
    ) -> None:
        self._store, self._name = store, name
        self._seconds, self._startup_timeout_s = seconds, startup_timeout_s
        self._reference: Frames | None = None

    def measure(self, candidate: Candidate) -> Figures:
        """Start a server with the candidate and render the clip with it.

        Raises:
            ServerError: it does not start, or does not render.
        """
        with self._serving(candidate) as (clip, client, processes):
            frames = self._frames(clip, client)  # the first run is this server's warm-up, too
            if self._reference is None:
                self._reference = frames
            before, begun = _Cpu.now(processes), time.perf_counter()
            runs = [self._time(clip, client, None) for _ in range(_RUNS)]
            after, elapsed = _Cpu.now(processes), time.perf_counter() - begun
        count = sum(count for count, _ in runs)
        fps = max(count / seconds for count, seconds in runs)
        cpu_ms = (after.server - before.server) / count * 1000
        psnr = psnr_db(frames, self._reference)
        return Figures(candidate, fps, cpu_ms, psnr, after.quiet_since(before, elapsed))

    def chunks(self, candidate: Candidate, sizes: list[int]) -> dict[int, float]:
        """Frames a second by the frames of a client's request."""
        best = dict.fromkeys(sizes, 0.0)
        with self._serving(candidate) as (clip, client, _):
            self._time(clip, client, None)
            for _ in range(_RUNS):  # in turns, so that what else the machine does meets them all
                for size in sizes:
                    count, seconds = self._time(clip, client, size)
                    best[size] = max(best[size], count / seconds)
        return best

    @contextmanager
    def _serving(self, candidate: Candidate) -> Iterator[tuple[Path, Any, list[Any]]]:
        import psutil

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
                    guard = psutil.Process(server.pid)
                    processes = [guard, *guard.children(recursive=True)]
                    with LipSyncClient(server.grpc_url) as client:
                        yield clip, client, processes
            except (embedded_error, LipSyncError) as error:
                lines = str(error).splitlines()
                said = next((line for line in lines if "ConfigError" in line), lines[0])
                raise ServerError(f"{self._name}: {candidate.profile}: {said}") from error

    def _link_models(self, root: Path, candidate: Candidate) -> None:
        """A repository of links to the avatar's models, with the candidate's configs."""
        steps = self._store.config(self._name).ensemble_scheduling.step
        for model in {self._name, *(step.model_name for step in steps)}:
            source, target = self._store.directory(model), root / model
            target.mkdir(parents=True)
            for path in source.iterdir():
                if path.name == CONFIG or path.name.isdecimal():
                    (target / path.name).symlink_to(path)
        for file in make_profile(self._store, self._name, candidate.profile, candidate.settings):
            configs = root / file.model / CONFIGS
            configs.mkdir()
            (configs / f"{_TRIAL}.pbtxt").write_text(file.text)

    def _frames(self, clip: Path, client: Any) -> Frames:
        """The clip's frames, cut to where patches are pasted."""
        from lipsync_client import Plan

        pack = self._store.directory(self._name + COMPOSITOR) / "1" / PACK
        with np.load(pack, allow_pickle=False) as arrays:
            rects = arrays["rects"]
        (left, top), (right, bottom) = rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)
        plan = Plan(output="FRAMES", chunk=_FRAMES_CHUNK)
        parts = [
            chunk.frames[:, top:bottom, left:right]
            for chunk in client.render(clip, self._name, plan)
        ]
        return np.concatenate(parts)

    def _time(self, clip: Path, client: Any, chunk: int | None) -> tuple[int, float]:
        """Frames, and the seconds they took as H.264."""
        from lipsync_client import Plan

        begun = time.perf_counter()
        plan = Plan(chunk=chunk)
        count = sum(len(part.frames) for part in client.render(clip, self._name, plan))
        return count, time.perf_counter() - begun


def psnr_db(came: Frames, expected: Frames) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures; infinite for equal ones."""
    error = float(np.mean((came.astype(np.float32) - expected.astype(np.float32)) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def cores() -> int:
    """Cores that this process, and so a server it starts, may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class _Cpu:
    """CPU seconds used so far: by a server, by this process, and by all the machine."""

    server: float
    own: float
    machine: float

    @classmethod
    def now(cls, processes: list[Any]) -> _Cpu:
        import psutil

        server = sum(sum(process.cpu_times()[:2]) for process in processes)
        times = psutil.cpu_times()
        # Guests' time is in the user's already.
        machine = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
        return cls(server, sum(psutil.Process().cpu_times()[:2]), machine)

    def quiet_since(self, before: _Cpu, elapsed_s: float) -> bool:
        """Whether others left us the cores that we may use."""
        ours = self.server - before.server + self.own - before.own
        others = (self.machine - before.machine - ours) / elapsed_s
        return (os.cpu_count() or 1) - others > _QUIET * cores()


def _write_wave(path: Path, samples: npt.NDArray[np.float32], rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
