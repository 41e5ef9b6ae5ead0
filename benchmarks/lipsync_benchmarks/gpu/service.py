"""The section that measures the whole service: speech to finished frames."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lipsync_client.protocol import FPS
from lipsync_embedded import Server

from ..case import AVATAR, WORK, build, speech_file
from ..measure import Setup, measure, serve
from ..processes import cpu_seconds, processes_by_model
from ..service import RESULTS, Clips
from ..steps import measure_steps
from .network import CUDA, require
from .record import GpuOptions, SectionRecord
from .timing import Figures

WARM_UP_S = 1.5


def service_section(options: GpuOptions, record: SectionRecord) -> None:
    """Measure MP4, JPEGs and raw frames for each number of clips at once, and the steps of one request."""
    if options.provider == "cuda":
        require(CUDA)
    case = build(options.width)
    speech = speech_file((options.frames + 1) / FPS)
    with (
        tempfile.TemporaryDirectory(dir=WORK) as scratch,
        serve(Setup(), case, speech_file(WARM_UP_S)) as (server, start_s),
    ):
        engine = server.engines().get(f"{AVATAR}_generator", "not in the log")
        record.set(start_s=round(start_s, 2), engine=engine)
        if options.provider == "cuda" and CUDA not in engine:
            raise RuntimeError(f"the server's generator is not on the GPU: {engine}")
        # MP4 for every number of clips comes first: time may run out.
        todo = [(r, n) for n in options.clips for r in RESULTS if r == "mp4" or n == 1]
        todo += [(r, n) for n in options.clips for r in RESULTS if r != "mp4" and n > 1]
        for result, clips in todo:
            row: Figures = {"result": result, "clips": clips}
            if record.is_late:
                record.add("skipped", row | {"reason": "time was up"})
                continue
            job = Clips(server.grpc_url, speech, Path(scratch), result, clips)
            try:
                row |= _measure_clips(server, job, options.frames)
            except Exception as e:  # the other rows' figures are still good
                row["error"] = f"{type(e).__name__}: {str(e).strip()}"[-500:]
            record.add("rows", row)
        if not record.is_late:
            record.set(steps_ms=measure_steps(server, speech, Path(scratch)))


def _measure_clips(server: Server, job: Clips, frames: int) -> Figures:
    before = _cpu_by_model(server)
    sample = measure(job, server)
    after = _cpu_by_model(server)
    made = sample.outcome.frames
    if made != frames * job.clips:
        raise RuntimeError(f"expected {frames * job.clips} frames, got {made}")
    spent = {name: round((after[name] - before[name]) / made * 1000, 3) for name in after}
    return {
        "frames": made,
        "fps": round(sample.fps, 2),
        "first_frame_s": round(sample.outcome.first_frame_s, 3),
        "cpu_ms_per_frame": round(sample.cpu_ms, 3),  # of all processes, the client's too
        "server_cpu_ms_per_frame": spent,
    }


def _cpu_by_model(server: Server) -> dict[str, float]:
    """Return the CPU seconds used so far by the server's processes, by model."""
    return {model: cpu_seconds(found) for model, found in processes_by_model(server).items()}
