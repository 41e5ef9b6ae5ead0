"""The memory budget of the service: each process, a second avatar, and the parts of each process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from lipsync_embedded import Server
from lipsync_embedded.accelerator import cpu_has_bf16
from lipsync_preprocessing.avatar import add_avatar
from lipsync_preprocessing.profiles.settings import ONNXRUNTIME, OPENVINO_BF16, OPENVINO_F32

from .case import AVATAR, WEIGHTS, WORK, Case, build, draw_dataset, speech_file
from .job import JobProcess
from .measure import Setup, serve
from .memory_parts import parts_tables
from .processes import Memory, memory_of, processes_by_model
from .rows import student_profiles, students_option
from .service import Clips
from .tables import table

SPEECH_S = 6.0  # 149 frames: several requests of the largest size are in flight
SETUPS = {
    "demo": Setup(ONNXRUNTIME, "demo"),
    "demo-f32": Setup(OPENVINO_F32, "demo"),
    "demo-bf16": Setup(OPENVINO_BF16, "demo"),
    "true": Setup(ONNXRUNTIME, "random"),
    "true-f32": Setup(OPENVINO_F32, "random"),
    "true-bf16": Setup(OPENVINO_BF16, "random"),
}
SECOND = "second"  # name of the second avatar
Budget = dict[str, Memory]  # by process: a model's name, tritonserver, client


def measure_budget(case: Case, setup: Setup, scratch: Path) -> tuple[Budget, Budget]:
    """Return the memory of each process when the server is ready, and after a clip to MP4."""
    with serve(setup, case, warm_up=None) as (server, _):
        return _budgets(server, scratch)


def measure_second_avatar(case: Case, scratch: Path) -> tuple[Budget, Budget]:
    """Return the same for a server with the demo avatar and another one of the same size."""
    repository = scratch / "two"
    shutil.copytree(case.demo, repository)
    trained = WEIGHTS / "generator.onnx", WEIGHTS / "audio_encoder.onnx"
    add_avatar(repository, SECOND, draw_dataset(), *trained)
    with Server(repository) as server:
        ready, _ = _budgets(server, scratch)
        with JobProcess(
            Clips(server.grpc_url, speech_file(SPEECH_S), scratch, avatar=SECOND)
        ) as job:
            job.run()
            return ready, _server_budget(server)


def _budgets(server: Server, scratch: Path) -> tuple[Budget, Budget]:
    ready = _server_budget(server)
    with JobProcess(Clips(server.grpc_url, speech_file(SPEECH_S), scratch)) as client:
        client.run()
        return ready, _server_budget(server) | {"client": memory_of([client.process])}


def _server_budget(server: Server) -> Budget:
    return {model: memory_of(found) for model, found in processes_by_model(server).items()}


def total(budget: Budget) -> Memory:
    """Return the memory of the server's processes together."""
    return sum((memory for name, memory in budget.items() if name != "client"), Memory())


def budget_table(ready: Budget, used: Budget) -> str:
    """Return the Markdown table of one server: each process when it is ready, and after a clip."""

    def cells(memory: Memory | None) -> list[str]:
        if memory is None:
            return ["", "", ""]
        return [f"{x:.0f}" for x in (memory.private, memory.shared, memory.proportional)]

    names = sorted(used, key=lambda name: -used[name].proportional)
    lines = [[name, *cells(ready.get(name)), *cells(used[name])] for name in names]
    lines.append(["**server, all processes**", *cells(total(ready)), *cells(total(used))])
    columns = [
        f"{kind}{when}" for when in (", ready", ", used") for kind in ("USS", "shared", "PSS")
    ]
    return table(["MiB", *columns], lines)


def memory_section(case: Case, scratch: Path, servers: Sequence[str] = tuple(SETUPS)) -> str:
    """Measure the budgets, and return the section of the page.

    Args:
        servers: keys of SETUPS.
    """
    text = """
## Memory

MiB of each process when the server is ready, and after a clip of 6 s to MP4 with three requests in flight. \
USS is a process's own memory, shared is its resident memory that other processes may map, and PSS counts \
what several processes map once between them: only PSS adds up.
"""
    one: Memory | None = None
    setups = {name: SETUPS[name] for name in servers}
    if case.students is not None:
        setups |= {p: Setup(p, "students") for p in student_profiles(case.students)}
    for name, setup in setups.items():
        if setup.profile == OPENVINO_BF16 and not cpu_has_bf16():
            continue
        click.echo(f"memory: {name}", err=True)
        ready, used = measure_budget(case, setup, scratch)
        one = total(used) if setup == SETUPS["demo"] else one
        avatar = "true-size avatar" if setup.avatar == "random" else "demo avatar"
        text += f"\n### {avatar}, {setup.profile}\n\n{budget_table(ready, used)}"
    if one is not None:
        click.echo("memory: two avatars", err=True)
        ready, used = measure_second_avatar(case, scratch)
        added = total(used).proportional - one.proportional
        text += f"\n### Two avatars of the demo's size, onnxruntime\n\n{budget_table(ready, used)}"
        text += f"\nThe second avatar adds {added:.0f} MiB (PSS) to the server.\n"
    return text + parts_tables(case.demo, AVATAR)


@click.command()
@click.option("--servers", default=",".join(SETUPS), help="Servers to measure, with commas.")
@students_option
def main(servers: str, students: Path | None) -> None:
    """Measure the memory of each process, and its parts."""
    chosen = [name for name in servers.split(",") if name]
    if unknown := set(chosen) - set(SETUPS):
        raise click.BadParameter(f"no server {min(unknown)}; there are {', '.join(SETUPS)}")
    case = build(1.0, students)
    with tempfile.TemporaryDirectory(dir=WORK) as scratch:
        click.echo(memory_section(case, Path(scratch), chosen))
