"""The benchmark of live sessions and of memory: their arithmetic, and a short run on a toy avatar."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import psutil
import pytest

from lipsync_benchmarks import sessions
from lipsync_benchmarks.job import JobProcess
from lipsync_benchmarks.live_sessions import LiveSessions
from lipsync_benchmarks.memory import budget_table, total
from lipsync_benchmarks.memory_parts import measure_parts
from lipsync_benchmarks.processes import Memory, memory_of, processes_by_model
from lipsync_benchmarks.sessions import SessionLoad, find_largest, sessions_line
from lipsync_embedded import Server


def load(number: int, repeated: float) -> SessionLoad:
    return SessionLoad(number, repeated, 0.3 * number, 500.0 + 20.0 * number, 0.6)


@pytest.mark.parametrize(
    ("carried", "measured"),
    [(0, [1]), (1, [1, 2]), (5, [1, 2, 4, 5, 6, 8]), (8, [1, 2, 4, 8, 9, 10, 12, 16])],
)
def test_search_ends_at_the_largest_number(
    carried: int, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(_: Server, number: int, __: float) -> SessionLoad:
        return load(number, 0.0 if number <= carried else 0.2)

    monkeypatch.setattr(sessions, "measure_load", measure)
    loads = find_largest(cast(Server, None), 1.0)
    assert [found.sessions for found in loads] == measured
    assert max((found.sessions for found in loads if found.carried), default=0) == carried


def test_line_of_a_server() -> None:
    loads = [load(1, 0.0), load(2, 0.005), load(3, 0.04)]
    assert sessions_line("demo", loads) == ["demo", "2", "0.30", "20", "0.60", "3: 4.0%"]
    assert sessions_line("large", [load(1, 0.5)]) == ["large", "0", "", "", "", "1: 50.0%"]


def test_a_session_on_a_toy(server: Server) -> None:
    with JobProcess(LiveSessions(server.grpc_url, 2, 1.0, avatar="toy")) as job:
        outcome = job.run()
    assert outcome.frames == 2 * 25
    assert 0 <= outcome.repeated <= outcome.frames
    assert outcome.first_frame_s > 0


def test_memory_of_processes(server: Server) -> None:
    own = memory_of([psutil.Process(os.getpid())])
    assert own.private > 50
    assert own.proportional >= own.private
    by_model = processes_by_model(server)
    assert {"mel", "toy_generator", "toy_compositor", "tritonserver"} <= by_model.keys()
    budget = {model: memory_of(found) for model, found in by_model.items()}
    assert total(budget | {"client": own}).private == pytest.approx(
        sum(memory.private for memory in budget.values())
    )


def test_budget_table() -> None:
    ready = {"mel": Memory(10, 12, 5)}
    lines = budget_table(ready, ready | {"client": Memory(70, 80, 20)}).splitlines()
    assert lines[2].split(" | ")[0] == "| client"  # the largest comes first
    assert lines[3] == "| mel | 10 | 5 | 12 | 10 | 5 | 12 |"
    assert lines[4] == "| **server, all processes** | 10 | 5 | 12 | 10 | 5 | 12 |"


def test_parts_add_up_in_the_order_of_the_steps(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("block = bytearray(40 << 20)\n")
    parts = measure_parts((("module", "import large"), ("nothing", "1 + n")), tmp_path, n=1)
    assert list(parts) == ["Python", "module", "nothing"]
    assert 39 < parts["module"] < 50
    assert abs(parts["nothing"]) < 5
