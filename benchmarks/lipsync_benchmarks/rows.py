"""The rows of the benchmark: the earlier systems and this project."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from lipsync_client.protocol import SAMPLE_RATE, frame_count
from lipsync_embedded import Server
from lipsync_embedded.accelerator import cpu_has_bf16
from lipsync_preprocessing.profiles.settings import (
    ONNXRUNTIME,
    OPENVINO_BF16,
    OPENVINO_F32,
    PROFILES,
)
from lipsync_preprocessing.repository import GENERATOR, STUDENT_CARD, Repository

from .baselines.network import Network, TritonNetwork
from .baselines.parallel import ParallelComposite, SessionPool
from .baselines.sequential import Cached, Sequential
from .case import AVATAR, Case, speech_file
from .job import Job, JobProcess
from .measure import Row, Setup
from .service import Clips, Result

PoolSize = tuple[int, int]  # workers, batch
SWEPT = (1, 2, 4, 8)  # workers and batches that `sweep` tries
USUAL_POOL: PoolSize = (4, 1)  # where no sweep has found the best


def choose(
    case: Case,
    scratch: Path,
    seconds: float,
    keys: Sequence[str] | None = None,
    pool: PoolSize = USUAL_POOL,
) -> list[Row]:
    """Return the rows with these keys, in the benchmark's order; all rows for None.

    Args:
        scratch: folder for the files that the rows write.
        seconds: length of the clip.
        pool: workers and batch of the pool of sessions.
    """
    speech = speech_file(seconds)
    frames = frame_count(round(seconds * SAMPLE_RATE))
    rows = earlier_rows(case, speech, frames, scratch, pool) + service_rows(speech, scratch)
    if case.students is not None:
        rows += student_rows(case.students, speech, scratch)
    if keys is None:
        return rows
    if unknown := set(keys) - {row.key for row in rows}:
        known = ", ".join(row.key for row in rows)
        raise click.BadParameter(f"no row {', '.join(sorted(unknown))}; there are {known}")
    return [row for row in rows if row.key in keys]


def earlier_rows(case: Case, speech: Path, frames: int, scratch: Path, pool: PoolSize) -> list[Row]:
    """Return the rows of the bare network and of the earlier systems."""
    inputs, (workers, batch) = case.inputs, pool
    return [
        Row(
            "bare",
            "ONNX Runtime, bare network, frame by frame",
            lambda _: Network(inputs, speech, frames),
            earlier="177.6 FPS (Python + ONNX Runtime, RTX 4090)",
        ),
        Row(
            "sequential",
            "whole pipeline frame by frame, disk reads",
            lambda _: Sequential(inputs, speech, scratch / "sequential"),
        ),
        Row(
            "cached",
            "the same, RAM cache and tensor cache",
            lambda _: Cached(inputs, speech, scratch / "cached"),
        ),
        Row(
            "composite",
            "RAM cache, batches of 4, 4 workers composite",
            lambda _: ParallelComposite(inputs, speech, scratch / "composite"),
            earlier="41.11 FPS (4 workers x batch 4, 1280x720)",
        ),
        Row(
            "pool",
            f"pool of sessions, tensor cache, {workers} workers x batch {batch}",
            lambda _: SessionPool(inputs, speech, scratch / "pool", workers=workers, batch=batch),
            earlier="21.6 FPS (Go, 8 sessions, CPU)",
        ),
        *[
            _raw_row(case, speech, frames, protocol, size)
            for protocol in ("gRPC", "HTTP")
            for size in (1, 4, 8)
        ],
    ]


def _raw_row(case: Case, speech: Path, frames: int, protocol: str, batch: int) -> Row:
    def job(server: Server | None) -> Job:
        assert server is not None
        url = server.grpc_url if protocol == "gRPC" else server.http_url
        return TritonNetwork(case.inputs, speech, frames, batch, url=url)

    name = f"the same network through Triton, {protocol}, batch {batch}"
    return Row(f"triton-{protocol.lower()}-{batch}", name, job, Setup(avatar="raw"))


def service_rows(speech: Path, scratch: Path) -> list[Row]:
    """Return this project's rows; those in bf16 only where the processor has it."""

    def clips(result: Result, count: int = 1) -> Callable[[Server | None], Job]:
        def job(server: Server | None) -> Job:
            assert server is not None
            return Clips(server.grpc_url, speech, scratch / f"{result}{count}", result, count)

        return job

    def demo(key: str, engine: str, profile: str) -> Row:
        name = (
            f"demo avatar (half the width, trained), {engine}, speech to MP4; 25 FPS is real time"
        )
        return Row(key, name, clips("mp4"), Setup(profile, "demo"))

    ours = "**this project**"
    rows = [
        Row("mp4", f"{ours}, speech to MP4 (H.264 + AAC)", clips("mp4"), Setup()),
        Row("jpeg", f"{ours}, a folder of JPEGs", clips("jpg"), Setup()),
        Row("raw", f"{ours}, raw frames over gRPC", clips("raw"), Setup()),
        Row("mp4-2", f"{ours}, 2 clips to MP4 at once", clips("mp4", 2), Setup()),
        Row("mp4-4", f"{ours}, 4 clips to MP4 at once", clips("mp4", 4), Setup()),
        Row(
            "f32",
            f"{ours}, OpenVINO f32 (exact), speech to MP4",
            clips("mp4"),
            Setup(OPENVINO_F32),
        ),
        Row("bf16", f"{ours}, OpenVINO bf16, speech to MP4", clips("mp4"), Setup(OPENVINO_BF16)),
    ]
    rows.append(demo("demo", "ONNX Runtime", ONNXRUNTIME))
    rows.append(demo("demo-f32", "OpenVINO f32", OPENVINO_F32))
    rows.append(demo("demo-bf16", "OpenVINO bf16", OPENVINO_BF16))
    if not cpu_has_bf16():
        rows = [row for row in rows if row.setup and row.setup.profile != OPENVINO_BF16]
    return rows


def student_rows(repository: Path, speech: Path, scratch: Path) -> list[Row]:
    """Return a row for each profile of a student of the demo avatar."""

    def job(server: Server | None) -> Job:
        assert server is not None
        return Clips(server.grpc_url, speech, scratch / "student")

    return [
        Row(
            profile,
            f"demo avatar, {student_title(repository, profile)}, speech to MP4",
            job,
            Setup(profile, "students"),
        )
        for profile in student_profiles(repository)
    ]


students_option = click.option(
    "--students",
    type=click.Path(path_type=Path, exists=True),
    help="A repository whose demo avatar has students and profiles of them: measure these, too.",
)


def student_profiles(repository: Path) -> list[str]:
    """Return the profiles of the demo avatar that serve a student; bf16 only where the processor has it."""
    profiles = Repository(repository).avatar(AVATAR).profiles
    found = [profile for profile in profiles if profile not in PROFILES]
    return [p for p in found if cpu_has_bf16() or not p.startswith(OPENVINO_BF16)]


def student_title(repository: Path, profile: str) -> str:
    """Return a student's width, its part of the face and its engine."""
    store = Repository(repository)
    (student,) = (s for s in store.avatar(AVATAR).students if profile.endswith(f"-{s.name}"))
    folder = store.model_file(AVATAR + GENERATOR, student.version).parent
    top, bottom, left, right = json.loads((folder / STUDENT_CARD).read_text())["region"]
    engine = profile.removesuffix(f"-{student.name}")
    return f"student of width {student.width}, {bottom - top}x{right - left} of its face, {engine}"


def sweep(case: Case, speech: Path, scratch: Path) -> dict[PoolSize, float]:
    """Return the FPS of the pool of sessions for each number of workers and batch, one short run each."""
    fps = {}
    with JobProcess(SessionPool(case.inputs, speech, scratch / "sweep")) as process:
        process.run(workers=8, batch=8)  # the first use of the sessions is slow, and is not counted
        for workers in SWEPT:
            for batch in SWEPT:
                outcome = process.run(workers=workers, batch=batch)
                fps[workers, batch] = outcome.frames / outcome.seconds
    return fps
