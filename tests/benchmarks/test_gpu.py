"""The benchmark for a GPU, run on a CPU with a small network; no time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from lipsync_benchmarks.gpu import command
from lipsync_benchmarks.gpu.network import CUDA, tensorrt_options
from lipsync_benchmarks.gpu.record import GpuOptions, SectionRecord
from lipsync_benchmarks.gpu.summary import summary
from lipsync_benchmarks.gpu.timing import Figures, psnr_db
from support.left_out import HARDWARE
from support.toy_avatars import ROOT

SMALL = ["--frames", "5", "--batches", "1,2", "--width", "0.125", "--clips", "1"]
OPTIONS = GpuOptions("cpu", 4, (1, 2), (1,), 0.125, "HEURISTIC", 480.0)


def run(path: Path, *options: str) -> tuple[Figures, str]:
    """Return the JSON file's content and the standard output."""
    finished = subprocess.run(
        [sys.executable, "-m", "lipsync_benchmarks", "gpu", "--json", str(path), *SMALL, *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(path.read_text()), finished.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Figures, str]:
    return run(tmp_path_factory.mktemp("gpu") / "bench.json", "--provider", "cpu")


@pytest.mark.soak
def test_every_section_is_reported(ran: tuple[Figures, str]) -> None:
    sections = ran[0]["sections"]
    assert {name: s["status"] for name, s in sections.items()} == {
        "machine": "done",
        "plain": "done",
        "compiled": "done",
        "tensorrt": "skipped",
        "service": "done",
    }
    assert "needs a GPU" in sections["tensorrt"]["reason"]
    for name in ("plain", "compiled"):
        rows = sections[name]["figures"]["rows"]
        wanted = [(p, b, f) for p in ("fp32", "fp16") for b in (1, 2) for f in ("arrays", "device")]
        assert [(r["precision"], r["batch"], r["feed"]) for r in rows] == wanted
        assert [r["calls"] for r in rows] == [5, 5, 3, 3] * 2
        assert all(0 < r["median_ms"] <= r["p95_ms"] and r["fps"] > 0 for r in rows)
        # Half precision rounds, but the frames stay close.
        assert 35 < sections[name]["figures"]["psnr_db"]["fp16"] < 90
        assert sections[name]["figures"]["skipped"][0]["precision"] == "tf32"


@pytest.mark.soak
def test_compiled_draws_the_plain_networks_pixels(ran: tuple[Figures, str]) -> None:
    found = ran[0]["sections"]["compiled"]["figures"]["against_plain"]
    assert found["largest_difference"] <= 1
    assert found["share_different"] < 1e-3
    assert found["levels_std"] > 5  # the frames are not flat


@pytest.mark.soak
def test_bytes_per_frame(ran: tuple[Figures, str]) -> None:
    figures = {name: ran[0]["sections"][name]["figures"] for name in ("plain", "compiled")}
    audio = 32 * 16 * 16 * 4
    assert figures["plain"]["bytes_per_frame"] == {
        "in": 6 * 320 * 320 * 4 + audio,
        "out": 3 * 320 * 320 * 4,
    }
    assert figures["compiled"]["bytes_per_frame"] == {"in": 8 + audio, "out": 307_200}


@pytest.mark.soak
def test_service_makes_all_frames(ran: tuple[Figures, str]) -> None:
    figures = ran[0]["sections"]["service"]["figures"]
    assert "CPUExecutionProvider" in figures["engine"]
    assert [(r["result"], r["clips"], r["frames"]) for r in figures["rows"]] == [
        ("mp4", 1, 5),
        ("jpg", 1, 5),
        ("raw", 1, 5),
    ]
    best = max(
        r["fps"]
        for r in ran[0]["sections"]["plain"]["figures"]["rows"]
        if (r["precision"], r["feed"]) == ("fp32", "arrays")
    )
    for row in figures["rows"]:
        assert row["ratio_to_bare_arrays"] == pytest.approx(row["fps"] / best, abs=1e-3)
        assert {"demo_compositor", "demo_generator", "mel"} <= row["server_cpu_ms_per_frame"].keys()
    assert set(figures["steps_ms"]) == {"MP4", "JPEG", "raw"}


@pytest.mark.soak
def test_a_short_table_ends_the_output(ran: tuple[Figures, str]) -> None:
    lines = ran[1].splitlines()
    assert len(lines) < 40
    assert lines[-1].endswith("bench.json")
    full = json.loads(json.dumps(ran[0]))  # as large as a run on a GPU
    full["options"] |= {"batches": [1, 2, 4, 8, 16, 32], "clips": [1, 4, 8, 16]}
    for section in full["sections"].values():
        section["reason"] = "x" * 500
    assert len(summary(full)) < 40


@pytest.mark.slow
def test_without_a_gpu_each_section_names_what_is_missing(tmp_path: Path) -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip(HARDWARE + "there is a GPU build of ONNX Runtime here")
    report, text = run(tmp_path / "bench.json", "--provider", "cuda")
    sections = report["sections"]
    assert sections["machine"]["figures"]["providers"]
    for name in ("plain", "compiled"):
        assert sections[name]["status"] == "failed"
        assert "no CUDAExecutionProvider" in sections[name]["reason"]
    assert sections["tensorrt"]["status"] == "skipped"
    assert "no TensorrtExecutionProvider" in sections["tensorrt"]["reason"]
    assert "tensorrt: skipped" in text
    # The server itself runs on any machine; a CPU's figures are not a GPU's.
    assert "no CUDAExecutionProvider" in sections["service"]["reason"]
    assert sections["service"]["figures"] == {}


def test_a_section_without_enough_time_is_skipped() -> None:
    begun = time.monotonic() - 0.7 * OPTIONS.budget_s
    section = command.run_section("tensorrt", OPTIONS, begun)
    assert (section["status"], section["figures"]) == ("skipped", {})
    assert "of the budget are left, it needs 60" in section["reason"]


def hangs(options: GpuOptions, record: SectionRecord) -> None:
    record.add("rows", {"batch": options.batches[0]})
    while True:
        time.sleep(1)


def dies(_: GpuOptions, record: SectionRecord) -> None:
    record.set(so_far=1)
    os.abort()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("section", "status", "figures"),
    [(hangs, "stopped", {"rows": [{"batch": 1}]}), (dies, "failed", {"so_far": 1})],
)
def test_figures_survive_their_process(
    section: Callable[[GpuOptions, SectionRecord], None],
    status: str,
    figures: Figures,
    tmp_path: Path,
) -> None:
    """Stop a section that hangs, name one that crashes, and keep the figures of both."""
    script = f"""
import sys, time
sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT / "benchmarks")!r}, {str(ROOT / "tests/benchmarks")!r}]
import test_gpu as t
from lipsync_benchmarks.gpu import command
command.SECTIONS["x"] = t.{section.__name__}
command.DUE["x"], command.GRACE_S = 1.0, 0.0
"""
    worker = tmp_path / "run.py"
    worker.write_text(
        script
        + """
if __name__ == "__main__":
    import dataclasses, json
    options = dataclasses.replace(t.OPTIONS, budget_s=25.0)
    print(json.dumps(command.run_section("x", options, time.monotonic())))
"""
    )
    finished = subprocess.run(
        [sys.executable, str(worker)], capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert (report["status"], report["figures"]) == (status, figures)
    assert report["reason"]


def test_psnr() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    assert psnr_db(black, black) is None
    assert psnr_db(black + 1, black) == pytest.approx(48.13, abs=0.01)
    half = np.full((1, 3, 2, 2), 0.5, np.float32)
    assert psnr_db(half + 0.1, half) == pytest.approx(20.0, abs=0.01)


def test_tensorrt_profile() -> None:
    feeds = {
        "input": np.zeros((32, 6, 320, 320), np.float32),
        "audio": np.zeros((32, 32, 16, 16), np.float32),
    }
    options = tensorrt_options(feeds, 32, Path("/cache"))
    assert options["trt_profile_min_shapes"] == "input:1x6x320x320,audio:1x32x16x16"
    assert options["trt_profile_opt_shapes"] == "input:16x6x320x320,audio:16x32x16x16"
    assert options["trt_profile_max_shapes"] == "input:32x6x320x320,audio:32x32x16x16"
