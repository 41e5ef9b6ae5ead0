"""The sections of the benchmark on a GPU; each has a process of its own and notes figures as it gets them."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from lipsync_client.protocol import FPS
from lipsync_embedded import Server

from . import gpu_network as network
from .case import AVATAR, WORK, build, machine, speech_file
from .gpu_network import CPU, CUDA, FP16, FP32, TENSORRT, TF32, TRT, Report, Unavailable
from .measure import ONNXRUNTIME, cpu_seconds, running, server_processes
from .measure import measure as measure_job
from .service import RAW, Clips
from .stages import measure_stages

WARM_UP_S = 1.5
KINDS = ("mp4", "jpg", RAW)
GPU_FACTS = "name,driver_version,memory.total,compute_cap,pcie.link.gen.max,pcie.link.width.max"


@dataclass(frozen=True)
class Settings:
    """What is measured: provider "cuda" or "cpu", frames of the clip, batches, clips at once."""

    provider: str
    frames: int
    batches: tuple[int, ...]
    clips: tuple[int, ...]
    width: float
    cudnn_search: str
    budget_s: float


class Notes:
    """A section's figures, on disk after each one, so that they outlive a crash and a kill."""

    def __init__(self, path: Path, deadline: float) -> None:
        self.report: Report = {"status": "failed", "reason": "its process died", "figures": {}}
        self._path, self._deadline = path, deadline

    @property
    def late(self) -> bool:
        return time.monotonic() > self._deadline  # one clock for all processes of a Linux

    def keep(self, **figures: Any) -> None:
        self.report["figures"] |= figures
        self._write()

    def add(self, key: str, row: Report) -> None:
        self.report["figures"].setdefault(key, []).append(row)
        self._write()

    def end(self, status: str, reason: str | None = None) -> None:
        self.report |= {"status": status, "reason": reason}
        self._write()

    def _write(self) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self.report))
        partial.replace(self._path)


def machine_section(_: Settings, notes: Notes) -> None:
    """What is under the figures; an empty list of GPUs where the driver's tool finds none."""
    notes.keep(host=machine(), onnxruntime=onnxruntime.__version__, gpus=[])
    notes.keep(providers=onnxruntime.get_available_providers())
    notes.keep(cuda_of_onnxruntime=getattr(onnxruntime, "cuda_version", None) or None)
    wheels = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    ours = ("nvidia-", "tensorrt", "onnxruntime")  # CUDA's and cuDNN's wheels among them
    notes.keep(wheels={k: v for k, v in sorted(wheels.items()) if k.lower().startswith(ours)})
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={GPU_FACTS}", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
        if answer.returncode:
            raise RuntimeError(f"nvidia-smi: {(answer.stdout + answer.stderr).strip()}")
        lines = [line.split(", ") for line in answer.stdout.strip().splitlines()]
        notes.keep(gpus=[dict(zip(GPU_FACTS.split(","), line, strict=True)) for line in lines])


def plain_section(settings: Settings, notes: Notes) -> None:
    """The bare network in each precision."""
    model, feeds = network.plain(settings.width)
    _precisions(settings, notes, feeds, lambda p: network.half(model) if p == FP16 else model)


def compiled_section(settings: Settings, notes: Notes) -> None:
    """The service's graph in each precision, and whether it makes the plain network's pixels."""
    bare, bare_feeds = network.plain(settings.width)
    joined, feeds = network.compiled(bare)

    def model(precision: str) -> Any:
        return network.compiled(network.half(bare))[0] if precision == FP16 else joined

    _precisions(settings, notes, feeds, model)
    floats = network.pictures(_session(settings, bare, FP32), bare_feeds)
    expected = (floats * np.float32(255)).astype(np.uint8).transpose(0, 2, 3, 1)
    came = network.pictures(_session(settings, joined, FP32), feeds)
    apart = np.abs(came.astype(int) - expected)
    agrees = {"most_levels_apart": int(apart.max()), "share_apart": float((apart > 0).mean())}
    notes.keep(against_plain=agrees | {"levels_std": float(expected.std())})


def _session(settings: Settings, model: Any, precision: str) -> Any:
    if settings.provider == "cpu":
        if precision == TF32:
            raise Unavailable("TF32 needs a GPU")
        return network.open_session(model, CPU, {})
    options = network.cuda_options(precision, settings.cudnn_search)
    return network.open_session(model, CUDA, options)


def _precisions(
    settings: Settings, notes: Notes, feeds: network.Feeds, model: Callable[[str], Any]
) -> None:
    reference, psnr_db = None, {}
    for precision in (FP32, TF32, FP16):
        try:
            session = _session(settings, model(precision), precision)
            picture = network.pictures(session, feeds)
        except Exception as e:
            notes.add("skipped", {"precision": precision, "reason": f"{type(e).__name__}: {e}"})
            continue
        if precision == FP32:
            reference = picture
            notes.keep(bytes_a_frame=network.bytes_a_frame(session))
        elif reference is not None:
            psnr_db[precision] = network.psnr_db(picture, reference)
            notes.keep(psnr_db=psnr_db)
        _rows(settings, notes, session, feeds, precision)
    if not notes.report["figures"].get("rows"):
        raise RuntimeError(f"nothing ran: {notes.report['figures']['skipped']}")


def _rows(
    settings: Settings, notes: Notes, session: Any, feeds: network.Feeds, precision: str
) -> None:
    device = settings.provider
    for batch in settings.batches:
        if notes.late:
            reason = f"time was up before batch {batch}"
            notes.add("skipped", {"precision": precision, "reason": reason})
            return
        for row in network.rows(session, feeds, precision, device, settings.frames, [batch]):
            notes.add("rows", row)


def tensorrt_section(settings: Settings, notes: Notes) -> None:
    """The bare network through TensorRT in FP16; its engine is built anew, and the time stated."""
    if settings.provider == "cpu":
        raise Unavailable("TensorRT needs a GPU")
    model, feeds = network.plain(settings.width)
    with tempfile.TemporaryDirectory() as cache:
        options = network.tensorrt_options(feeds, max(settings.batches), Path(cache))
        begun = time.perf_counter()
        session = network.open_session(model, TENSORRT, options)
        came = network.pictures(session, {k: a[: max(settings.batches)] for k, a in feeds.items()})
        notes.keep(build_s=round(time.perf_counter() - begun, 1))
        expected = network.pictures(_session(settings, model, FP32), feeds)
        notes.keep(psnr_db={TRT: network.psnr_db(came, expected[: len(came)])})
        _rows(settings, notes, session, feeds, TRT)


def service_section(settings: Settings, notes: Notes) -> None:
    """Speech to finished frames by the whole service; CPU ms a frame of each process's own clock."""
    if settings.provider == "cuda":
        network.require(CUDA)
    case = build(settings.width)
    speech = speech_file((settings.frames + 1) / FPS)
    with (
        tempfile.TemporaryDirectory(dir=WORK) as scratch,
        running(ONNXRUNTIME, case, speech_file(WARM_UP_S)) as (server, start_s),
    ):
        log = server.log_tail(1_000_000).splitlines()
        engine = next(
            (x for x in log if f"{AVATAR}_generator: ONNX Runtime" in x), "not in the log"
        )
        notes.keep(start_s=round(start_s, 2), engine=engine.split(f"{AVATAR}_generator: ")[-1])
        if settings.provider == "cuda" and CUDA not in engine:
            raise RuntimeError(f"the server's generator is not on the GPU: {engine}")
        todo = [(k, n) for n in settings.clips for k in KINDS if k == "mp4" or n == 1]
        todo += [(k, n) for n in settings.clips for k in KINDS if k != "mp4" and n > 1]
        for kind, clips in todo:
            if notes.late:
                notes.add("skipped", {"kind": kind, "clips": clips, "reason": "time was up"})
                continue
            job = Clips(server.grpc_url, speech, Path(scratch), kind, clips)
            try:
                notes.add("rows", _service_row(server, job, settings.frames))
            except Exception as e:  # the others' figures stand
                text = f"{type(e).__name__}: {str(e).strip()}"[-500:]
                notes.add("rows", {"kind": kind, "clips": clips, "error": text})
        if not notes.late:
            notes.keep(stages_ms=measure_stages(server, speech, Path(scratch)))


def _service_row(server: Server, job: Clips, frames: int) -> Report:
    before = _cpu_by_model(server)
    sample = measure_job(job, server)
    after = _cpu_by_model(server)
    made = sample.outcome.frames
    if made != frames * job.clips:
        raise RuntimeError(f"expected {frames * job.clips} frames, got {made}")
    spent = {name: round((after[name] - before[name]) / made * 1000, 3) for name in after}
    return {
        "kind": job.kind,
        "clips": job.clips,
        "frames": made,
        "fps": round(sample.fps, 2),
        "first_frame_s": round(sample.outcome.first_frame_s, 3),
        "cpu_ms_a_frame": round(sample.cpu_ms, 3),  # all of it, the client too
        "server_cpu_ms_a_frame": spent,
    }


def _cpu_by_model(server: Server) -> dict[str, float]:
    """CPU seconds so far of the server's processes, by the model they run."""
    spent: dict[str, float] = {}
    for process in server_processes(server)[1:]:
        folders = (Path(a).parts[-3] for a in process.cmdline() if "/1/model." in a)
        name = next(folders, process.name())
        spent[name] = spent.get(name, 0.0) + cpu_seconds([process])
    return spent


SECTIONS = {
    "machine": machine_section,
    "plain": plain_section,
    "compiled": compiled_section,
    "tensorrt": tensorrt_section,
    "service": service_section,
}
