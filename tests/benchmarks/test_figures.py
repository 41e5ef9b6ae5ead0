"""The benchmark's own arithmetic, on figures made by hand, and one turn of it on a toy avatar."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import soundfile

from lipsync_benchmarks import ratios, steps
from lipsync_benchmarks.job import Job, JobProcess, Outcome
from lipsync_benchmarks.measure import Row, Sample, measure
from lipsync_benchmarks.processes import own_mb
from lipsync_benchmarks.scaling import Point
from lipsync_benchmarks.service import Clips
from lipsync_benchmarks.tables import network_table, rows_table, spread
from lipsync_benchmarks.tables import ratios as ratio_of
from lipsync_embedded import Server
from support.triton_calls import speech


def sample(fps: float, calls: list[tuple[float, int]] | None = None) -> Sample:
    outcome = Outcome(100, 100 / fps, 0.5, calls or [], (0.5, 0.1, 0.0, 1.0) if calls else None)
    return Sample(outcome, cpu_ms=80.0, peak_mb=700.0, start_s=2.0)


def no_job(_: Server | None) -> Job:
    raise NotImplementedError


def row(key: str, *fps: float) -> Row:
    return Row(key, f"row {key}", no_job, samples={n: sample(f) for n, f in enumerate(fps)})


def test_ratios_are_of_the_same_turn() -> None:
    """Divide by the same turn: a machine that is slow for a turn is slow for all of its rows."""
    first, other = row("bare", 20, 10, 40), row("mp4", 10, 5, 20)
    assert ratio_of(other, first) == [0.5, 0.5, 0.5]
    del first.samples[1]  # that run failed
    assert ratio_of(other, first) == [0.5, 0.5]


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2.0 (1.0-3.0)"
    assert spread([3.14159], 2) == "3.14"
    assert spread([]) == "-"


def test_a_row_that_failed_is_in_the_table_with_its_reason() -> None:
    failed = Row("x", "failed row", no_job, failures=["out of memory"])
    lines = rows_table([row("bare", 20, 24), failed]).splitlines()
    assert lines[2].split(" | ")[:3] == ["| row bare", "22.0 (20.0-24.0)", "1.00 (1.00-1.00)"]
    assert lines[3].startswith("| failed row (1 runs failed: out of memory) | - | - |")


def test_latencies_are_per_frame_and_overhead_per_turn() -> None:
    bare = Row("bare", "bare", no_job)
    triton = Row("t", "triton", no_job)
    for turn, slow in enumerate((1, 3)):  # the second turn is three times slower for both
        bare.samples[turn] = sample(25, [(0.040 * slow, 1)] * 4)
        triton.samples[turn] = sample(20, [(0.200 * slow, 4)])
    cells = network_table([bare, triton]).splitlines()[3].split(" | ")
    mean, median, std, least, most = map(float, cells[1:6])
    assert (mean, median, std, least, most) == (100, 100, 50, 50, 150)
    assert cells[10] == "20.0 (10.0-30.0)"


def test_steps_add_up_to_the_wall_clock() -> None:
    ms = 1_000_000
    spent = {
        model.format("demo"): {"success": 9 * ms, "queue": 1 * ms, "compute_infer": n * ms}
        for n, model in enumerate(steps.STEPS_BY_MODEL, start=1)
    } | {"demo": {"success": 50 * ms, "queue": 0, "compute_infer": 0}}
    found = steps.step_times(spent, "demo", frames=10, wall_s=0.100, requests_s=0.070)
    assert found["queue"] == pytest.approx(0.5)
    assert found["mel"] == pytest.approx(0.1)
    assert found["compositor + encode"] == pytest.approx(0.5)
    assert found["tensors in the server"] == pytest.approx((50 - 5 - 15) / 10)
    assert found["transport"] == pytest.approx(2.0)
    assert found["client"] == pytest.approx(3.0)
    assert sum(found.values()) == pytest.approx(100 / 10)


def test_guard_names_what_changed(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    assert "no ratios are kept" in ratios.compare(path, [])
    before = [
        row("bare", 20, 20, 20),
        *(row(k, 18, 20, 22) for k in ("same", "up", "down", "gone")),
    ]
    ratios.write(path, before)
    assert json.loads(path.read_text())["ratios"]["up"] == {"median": 1, "least": 0.9, "most": 1.1}
    # Twice as slow a machine: the ratios stay.
    now = [
        row("bare", 10, 10, 10),
        row("same", 9, 10, 12),
        row("up", 14, 15, 16),
        row("down", 4, 5, 6),
        row("new", 10, 10, 10),
    ]
    differences = {
        line.split(":")[0].strip(): line for line in ratios.compare(path, now).splitlines()
    }
    assert "the same within the spread" in differences["row same"]
    assert "FASTER by 50%" in differences["row up"]
    assert "SLOWER by 50%" in differences["row down"]
    assert "none was kept" in differences["row new"]
    assert "not measured now" in differences["gone"]


def test_diagrams(tmp_path: Path) -> None:
    from lipsync_benchmarks.plots import plot_scaling, plot_steps  # they import matplotlib

    times = {name: dict.fromkeys(steps.STEPS, 2.0) for name in ("MP4", "raw")}
    plot_steps(times, tmp_path / "images/steps.png")
    points = [Point(x, Outcome(25, x, 0.1, [(0.1, 8)]), 90.0) for x in (1, 2, 4)]
    plot_scaling(
        dict.fromkeys(("clips", "chunk", "seconds"), points), tmp_path / "images/scaling.png"
    )
    for name in ("steps", "scaling"):
        diagram = cv2.imread(str(tmp_path / f"images/{name}.png"))
        assert diagram is not None
        assert diagram.shape[1] > 800
        assert diagram.std() > 5


def test_a_turn_on_a_toy(server: Server, tmp_path: Path) -> None:
    """Measure two clips at once and one at a time, by the client's and the server's clocks."""
    audio_file = tmp_path / "speech.wav"
    soundfile.write(audio_file, speech(1.0), 16000)
    two = Clips(server.grpc_url, audio_file, tmp_path, "mp4", clips=2, avatar="toy")
    measured = measure(two, server, server_start_s=1.0)
    assert measured.outcome.frames == 2 * 24
    assert sum(frames for _, frames in measured.outcome.calls) == 2 * 24
    assert measured.cpu_ms > 0
    assert measured.start_s > 1.0
    with JobProcess(two) as alone:  # the server's memory counts too
        assert measured.peak_mb > own_mb(alone.process) + 100
    times = steps.measure_steps(server, audio_file, tmp_path, avatar="toy")
    assert list(times) == ["MP4", "JPEG", "raw"]
    for found in times.values():
        assert all(found[name] > 0 for name in ("mel", "encoder", "generator", "client"))
        assert found["compositor + encode"] > 0
