"""The number of live sessions that one machine carries: until 1 % of their frames are repeated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from lipsync_embedded import Server
from lipsync_embedded.accelerator import cpu_has_bf16
from lipsync_preprocessing.profiles.settings import CPU_PROFILES, OPENVINO_BF16

from .case import Case, build, speech_file
from .job import JobProcess
from .live_sessions import LiveSessions
from .measure import Setup, serve
from .processes import cpu_seconds, memory_of, server_processes
from .rows import student_profiles, student_title, students_option
from .tables import table

LIMIT = 0.01  # share of repeated frames
LARGEST = 256  # sessions, where the search ends
WARM_UP_S = 1.5


@dataclass(frozen=True)
class SessionLoad:
    """The figures of one number of sessions.

    Attributes:
        repeated: share of the frames that were repeated, 0 to 1.
        cores: cores that the server and the client used.
        memory_mb: memory of the server and the client (PSS), MiB.
        first_frame_s: longest time from the opening of a session to its first frame.
    """

    sessions: int
    repeated: float
    cores: float
    memory_mb: float
    first_frame_s: float

    @property
    def carried(self) -> bool:
        return self.repeated <= LIMIT


def measure_load(server: Server, sessions: int, seconds: float) -> SessionLoad:
    """Run this number of sessions for some seconds."""
    with JobProcess(LiveSessions(server.grpc_url, sessions, seconds)) as process:
        involved = [process.process, *server_processes(server)]
        memory = 0.0

        def look() -> None:
            nonlocal memory
            memory = max(memory, memory_of(involved).proportional)

        before = cpu_seconds(involved)
        outcome = process.run(between=look, every_s=2.0)
        cores = (cpu_seconds(involved) - before) / outcome.seconds
        look()
    share = outcome.repeated / outcome.frames
    return SessionLoad(sessions, share, cores, memory, outcome.first_frame_s)


def find_largest(server: Server, seconds: float) -> list[SessionLoad]:
    """Double the number of sessions until the server does not carry them, then halve the interval.

    Returns:
        the loads that were measured, by number of sessions.
    """
    loads: dict[int, SessionLoad] = {}
    low, high = 0, LARGEST + 1
    number = 1
    while high - low > 1:
        loads[number] = measure_load(server, number, seconds)
        click.echo(f"  {loads[number]}", err=True)
        if loads[number].carried:
            low = number
        else:
            high = number
        number = min(2 * low, LARGEST) if high > LARGEST else (low + high) // 2
        if number in loads:
            break
    return [loads[n] for n in sorted(loads)]


def sessions_line(name: str, loads: list[SessionLoad]) -> list[str]:
    """Return the row of the table for one server."""
    carried = [load for load in loads if load.carried]
    best = carried[-1] if carried else None
    over = next((load for load in loads if not load.carried), None)
    above = "" if over is None else f"{over.sessions}: {over.repeated:.1%}"
    if best is None:
        return [name, "0", "", "", "", above]
    first = loads[0]
    more = best.sessions - first.sessions
    memory = f"{(best.memory_mb - first.memory_mb) / more:.0f}" if more else "-"
    return [
        name,
        str(best.sessions),
        f"{best.cores / best.sessions:.2f}",
        memory,
        f"{best.first_frame_s:.2f}",
        above,
    ]


def sessions_section(cases: dict[str, tuple[Case, Setup]], seconds: float) -> str:
    """Measure the sessions that each server carries, and return the section of the page."""
    lines = []
    for name, (case, setup) in cases.items():
        click.echo(f"sessions: {name}", err=True)
        with serve(setup, case, speech_file(WARM_UP_S)) as (server, _):
            lines.append(sessions_line(name, find_largest(server, seconds)))
    head = [
        "",
        "sessions",
        "cores per session",
        "MiB per session",
        "first frame s",
        "repeated above",
    ]
    return f"""
## Live sessions per machine

The largest number of live sessions of whose frames at most {LIMIT:.0%} were repeated. Each session was fed \
with speech at its own pace and shown at 25 frames per second, for {seconds:g} s. Client and server ran on \
this machine; the cores and the memory (PSS) are those of both, and the memory per session is the difference \
to one session. The last column gives the smallest number that was not carried, and its repeated frames.

{table(head, lines)}"""


def cases_of(
    avatars: list[str], profiles: list[str], students: Path | None = None
) -> dict[str, tuple[Case, Setup]]:
    """Return the servers to measure, by name.

    Args:
        avatars: "demo", or widths of the network with random weights.
        profiles: names of profiles; bf16 is left out where the processor lacks it.
        students: a repository whose students are measured too.
    """
    found = {}
    for avatar in avatars:
        for profile in profiles:
            if profile == OPENVINO_BF16 and not cpu_has_bf16():
                continue
            if avatar == "demo":
                found[f"demo avatar, {profile}"] = build(1.0), Setup(profile, "demo")
            else:
                name = f"width {float(avatar):g}, {profile}"
                found[name] = build(float(avatar)), Setup(profile, "random")
    if students is not None:
        for profile in student_profiles(students):
            name = f"demo avatar, {student_title(students, profile)}"
            found[name] = build(1.0, students), Setup(profile, "students")
    return found


@click.command()
@click.option("--avatars", default="demo,1", help="demo, or widths of the network, with commas.")
@students_option
@click.option("--profiles", default=",".join(CPU_PROFILES), help="Profiles, with commas.")
@click.option("--seconds", default=15.0, help="Seconds of each session that are counted.")
def main(avatars: str, profiles: str, seconds: float, students: Path | None) -> None:
    """Measure the number of live sessions that this machine carries."""
    names = [name for name in avatars.split(",") if name]
    cases = cases_of(names, profiles.split(","), students)
    click.echo(sessions_section(cases, seconds))
