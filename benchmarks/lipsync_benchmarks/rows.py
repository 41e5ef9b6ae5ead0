"""The rows of the benchmark: the earlier systems, and this project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lipsync_embedded import Server
from lipsync_embedded.accelerator import cpu_has_bf16

from .baselines import Cached, Sequential
from .baselines_parallel import ParallelComposite, SessionPool
from .case import Case
from .job import Job, JobProcess
from .measure import DEMO, ONNXRUNTIME, OPENVINO_BF16, OPENVINO_F32, RAW_SERVER, Row
from .network import Network, TritonNetwork
from .service import RAW, Clips

SWEPT = (1, 2, 4, 8)
Best = tuple[int, int]  # workers, batch
# Earlier systems that no row has the design of.
EARLIER_ELSEWHERE = ("Go port: 90 FPS, RTX 4090", "iOS app: 48 FPS, Apple")


def all_rows(case: Case, speech: Path, frames: int, scratch: Path) -> list[Row]:
    """Every row but the pool of sessions, whose best settings come from `sweep`.

    Args:
        speech: the clip.
        frames: how many it makes.
        scratch: folder for what the rows write.
    """
    material = case.material

    def raw(protocol: str, batch: int) -> Row:
        def job(server: Server | None) -> Job:
            assert server is not None
            url = server.grpc_url if protocol == "gRPC" else server.http_url
            return TritonNetwork(material, speech, frames, batch, url=url)

        name = f"the same network through Triton, {protocol}, batch {batch}"
        return Row(f"triton-{protocol.lower()}-{batch}", name, job, RAW_SERVER)

    return [
        Row(
            "bare",
            "ONNX Runtime, bare network, frame by frame",
            lambda _: Network(material, speech, frames),
            earlier="177.6 FPS (Python + ONNX Runtime, RTX 4090)",
        ),
        Row(
            "sequential",
            "whole pipeline frame by frame, disk reads",
            lambda _: Sequential(material, speech, scratch / "sequential"),
        ),
        Row(
            "cached",
            "the same, RAM cache and tensor cache",
            lambda _: Cached(material, speech, scratch / "cached"),
        ),
        Row(
            "composite",
            "RAM cache, batches of 4, 4 workers composite",
            lambda _: ParallelComposite(material, speech, scratch / "composite"),
            earlier="41.11 FPS (4 workers x batch 4, 1280x720)",
        ),
        *[raw(protocol, batch) for protocol in ("gRPC", "HTTP") for batch in (1, 4, 8)],
        *service_rows(case, speech, scratch),
    ]


def service_rows(case: Case, speech: Path, scratch: Path) -> list[Row]:
    """This project's."""

    def clips(kind: str, count: int = 1) -> Callable[[Server | None], Job]:
        def job(server: Server | None) -> Job:
            assert server is not None
            return Clips(server.grpc_url, speech, scratch / f"{kind}{count}", kind, count)

        return job

    def demo(key: str, what: str, kind: str) -> Row:
        name = f"demo avatar (half the width, trained), {what}, speech to MP4; 25 FPS is real time"
        return Row(key, name, clips("mp4"), DEMO + kind)

    bf16 = cpu_has_bf16()
    ours = "**this project**"
    rows = [
        Row("mp4", f"{ours}, speech to MP4 (H.264 + AAC)", clips("mp4"), ONNXRUNTIME),
        Row("jpeg", f"{ours}, a folder of JPEGs", clips("jpg"), ONNXRUNTIME),
        Row("raw", f"{ours}, raw frames over gRPC", clips(RAW), ONNXRUNTIME),
        Row("mp4-2", f"{ours}, 2 clips to MP4 at once", clips("mp4", 2), ONNXRUNTIME),
        Row("mp4-4", f"{ours}, 4 clips to MP4 at once", clips("mp4", 4), ONNXRUNTIME),
        Row("f32", f"{ours}, OpenVINO f32 (exact), speech to MP4", clips("mp4"), OPENVINO_F32),
    ]
    if bf16:
        name = f"{ours}, OpenVINO bf16, speech to MP4"
        rows.append(Row("bf16", name, clips("mp4"), OPENVINO_BF16))
    if case.demo is not None:
        rows.append(demo("demo", "ONNX Runtime", ONNXRUNTIME))
        rows.append(demo("demo-f32", "OpenVINO f32", OPENVINO_F32))
        if bf16:
            rows.append(demo("demo-bf16", "OpenVINO bf16", OPENVINO_BF16))
    return rows


def pool_row(case: Case, speech: Path, scratch: Path, best: Best) -> Row:
    """The pool of sessions at its best."""
    workers, batch = best
    return Row(
        "pool",
        f"pool of sessions, tensor cache, {workers} workers x batch {batch}",
        lambda _: SessionPool(
            case.material, speech, scratch / "pool", workers=workers, batch=batch
        ),
        earlier="21.6 FPS (Go, 8 sessions, CPU)",
    )


def sweep(case: Case, speech: Path, scratch: Path) -> dict[Best, float]:
    """FPS of the pool of sessions for each number of workers and each batch, one short run each."""
    fps = {}
    with JobProcess(SessionPool(case.material, speech, scratch / "sweep")) as process:
        process.run(workers=8, batch=8)  # the first use of every session is nobody's measure
        for workers in SWEPT:
            for batch in SWEPT:
                outcome = process.run(workers=workers, batch=batch)
                fps[workers, batch] = outcome.frames / outcome.seconds
    return fps
