"""The time of each step, from Triton's statistics and the client's clock, with one request at a time.

With a single request in flight no two models work at once, so the steps add up to the wall clock.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tritonclient.http

from lipsync_embedded import Server

from .case import AVATAR
from .job import JobProcess
from .service import RESULTS, Clips
from .tables import table

# The step that each model of the ensemble performs; the last two models are the avatar's own.
STEPS_BY_MODEL = {
    "mel": "mel",
    "audio_encoder": "encoder",
    "audio_window": "window",
    "{}_generator": "generator",
    "{}_compositor": "compositor + encode",
}
STEPS = ("queue", *STEPS_BY_MODEL.values(), "tensors in the server", "transport", "client")
COLUMNS = {"mp4": "MP4", "jpg": "JPEG", "raw": "raw"}
StepTimes = dict[str, float]  # ms per frame, by step
Statistics = dict[str, dict[str, int]]  # nanoseconds by model and kind


def measure_steps(
    server: Server, speech: Path, scratch: Path, avatar: str = AVATAR
) -> dict[str, StepTimes]:
    """Return the times of the steps for each of COLUMNS."""
    measured = {}
    for result in RESULTS:
        clips = Clips(
            server.grpc_url, speech, scratch / f"steps-{result}", result, in_flight=1, avatar=avatar
        )
        with JobProcess(clips) as process:
            before = read_statistics(server)
            outcome = process.run()
            after = read_statistics(server)
        spent = {
            model: {kind: ns - before.get(model, {}).get(kind, 0) for kind, ns in kinds.items()}
            for model, kinds in after.items()
        }
        requests_s = sum(seconds for seconds, _ in outcome.calls)
        measured[COLUMNS[result]] = step_times(
            spent, avatar, outcome.frames, outcome.seconds, requests_s
        )
    return measured


def read_statistics(server: Server) -> Statistics:
    """Return the nanoseconds so far of each model: whole requests, in the queue, computing."""
    with tritonclient.http.InferenceServerClient(server.http_url.split("//")[1]) as client:
        models: list[dict[str, Any]] = client.get_inference_statistics()["model_stats"]
    return {
        m["name"]: {
            kind: int(m["inference_stats"][kind]["ns"])
            for kind in ("success", "queue", "compute_infer")
        }
        for m in models
    }


def step_times(
    spent: Statistics, avatar: str, frames: int, wall_s: float, requests_s: float
) -> StepTimes:
    """Return the milliseconds per frame of each step; they add up to the wall clock.

    The transport may come out a little below 0 on a busy machine: Triton's time of a request ends after its
    clean-up, which may be later than the client's.

    Args:
        spent: nanoseconds of each model during the run.
        wall_s: of the run.
        requests_s: of the run, from sending a request until its response was an array.
    """
    models = {step: spent[model.format(avatar)] for model, step in STEPS_BY_MODEL.items()}
    server_ns = spent[avatar]["success"]
    queue_ns = sum(model["queue"] for model in models.values())
    computed_ns = {step: model["compute_infer"] for step, model in models.items()}
    rest_ns = server_ns - queue_ns - sum(computed_ns.values())
    ns = {
        "queue": float(queue_ns),
        **computed_ns,
        "tensors in the server": rest_ns,
        "transport": requests_s * 1e9 - server_ns,
        "client": (wall_s - requests_s) * 1e9,
    }
    return {step: ns[step] / frames / 1e6 for step in STEPS}


def steps_table(measured: dict[str, StepTimes]) -> str:
    """Return the Markdown table of the steps."""
    lines = [[step, *(f"{times[step]:.2f}" for times in measured.values())] for step in STEPS]
    lines.append(["**all**", *(f"**{sum(times.values()):.2f}**" for times in measured.values())])
    return table(["ms per frame", *measured], lines)
