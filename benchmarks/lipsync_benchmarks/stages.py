"""Where the time goes: Triton's own statistics beside the client's clock, one request at a time.

With a single request under way nothing overlaps between the models, so the stages add up to the wall clock.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tritonclient.http

from lipsync_embedded import Server

from .case import AVATAR
from .job import JobProcess
from .report import table
from .service import RAW, Clips

# What each model of the ensemble does; the last two are the avatar's own.
COMPUTED = {
    "mel": "mel",
    "audio_encoder": "encoder",
    "audio_window": "window",
    "{}_generator": "generator",
    "{}_compositor": "compositor + encode",
}
STAGES = ("queue", *COMPUTED.values(), "tensors in the server", "transport", "client")
OUTPUTS = {"mp4": "MP4", "jpg": "JPEG", RAW: "raw"}
Stages = dict[str, float]  # ms a frame


def measure_stages(
    server: Server, speech: Path, scratch: Path, avatar: str = AVATAR
) -> dict[str, Stages]:
    """Stages of each output, by its name."""
    result = {}
    for kind, name in OUTPUTS.items():
        target = scratch / f"stages-{kind}"
        clips = Clips(server.grpc_url, speech, target, kind, in_flight=1, avatar=avatar)
        with JobProcess(clips) as process:
            before = statistics(server)
            outcome = process.run()
            after = statistics(server)
        spent = {
            key: {what: after[key][what] - before.get(key, {}).get(what, 0) for what in after[key]}
            for key in after
        }
        requests_s = sum(seconds for seconds, _ in outcome.calls)
        result[name] = stages(spent, avatar, outcome.frames, outcome.seconds, requests_s)
    return result


def statistics(server: Server) -> dict[str, dict[str, int]]:
    """Nanoseconds so far of each model: its whole requests, in the queue, computing."""
    with tritonclient.http.InferenceServerClient(server.http_url.split("//")[1]) as client:
        models: list[dict[str, Any]] = client.get_inference_statistics()["model_stats"]
    return {
        m["name"]: {
            what: int(m["inference_stats"][what]["ns"])
            for what in ("success", "queue", "compute_infer")
        }
        for m in models
    }


def stages(
    spent: dict[str, dict[str, int]], avatar: str, frames: int, wall_s: float, requests_s: float
) -> Stages:
    """ms a frame of each stage; they add up to the wall clock.

    Transport may come out a little under 0 on a busy machine: Triton's time of a request ends when it is
    tidied up, which may be after the client has the answer.

    Args:
        spent: nanoseconds of each model during the run.
        wall_s: of the run.
        requests_s: of it, from sending a request until its answer was an array.
    """
    steps = {stage: spent[model.format(avatar)] for model, stage in COMPUTED.items()}
    server_ns = spent[avatar]["success"]
    queue_ns = sum(step["queue"] for step in steps.values())
    computed_ns = {stage: step["compute_infer"] for stage, step in steps.items()}
    rest_ns = server_ns - queue_ns - sum(computed_ns.values())
    ns = {
        "queue": float(queue_ns),
        **computed_ns,
        "tensors in the server": rest_ns,
        "transport": requests_s * 1e9 - server_ns,
        "client": (wall_s - requests_s) * 1e9,
    }
    return {stage: ns[stage] / frames / 1e6 for stage in STAGES}


def stages_table(measured: dict[str, Stages]) -> str:
    lines = [[stage, *(f"{m[stage]:.2f}" for m in measured.values())] for stage in STAGES]
    lines.append(["**all**", *(f"**{sum(m.values()):.2f}**" for m in measured.values())])
    return table(["ms a frame", *measured], lines)
