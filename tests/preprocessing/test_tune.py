"""Execution profiles: their files, what a server makes of them, and what is measured before."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lipsync_embedded import Server
from lipsync_preprocessing.profiles import tune
from lipsync_preprocessing.repository import Repository
from support.left_out import HARDWARE
from support.profile_commands import SERVER, config, done, parameter, profile_files, run

HAS_BF16 = bool(re.search("avx512_bf16|amx_bf16", Path("/proc/cpuinfo").read_text()))


@pytest.mark.server
def test_the_command_says_what_runs_and_that_a_gpu_lies_idle(anna: Path, tmp_path: Path) -> None:
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    ports = [f"--{protocol}-port=0" for protocol in ("http", "grpc", "metrics")]
    process = subprocess.Popen(
        [SERVER, "--repository", str(anna), "--model", "audio_window", *ports],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PATH": f"{tool.parent}:{os.environ['PATH']}"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline().startswith("ready: ")
        assert process.stderr.readline().startswith("lipsync-server: model repository: ")
        engine = process.stderr.readline()
        assert re.fullmatch(r"engines: ONNX Runtime [\d.]+, .* threads: audio_window\n", engine)
        advice = process.stderr.readline()
        assert "has an NVIDIA GPU, but the models run on the CPU" in advice
        assert "pip install 'lipsync-triton[gpu]'" in advice
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=90)


@pytest.mark.server
@pytest.mark.skipif(not HAS_BF16, reason=HARDWARE + "this CPU does not multiply bf16")
def test_bf16_below_the_floor_is_refused(anna: Path) -> None:
    arguments = ("tune", "anna", "--profile", "openvino-bf16", "--seconds", "0.5")
    refused = run(anna, *arguments, "--psnr-floor", "200")
    assert refused.exit_code == 1
    *_, line = refused.stderr.splitlines()  # the first one names the repository
    came = re.search(
        r"openvino-bf16 refused: expected frames of at least 200 dB PSNR against f32, got ([\d.]+);",
        line,
    )
    assert came is not None, line
    assert 20 < float(came[1]) < 200
    assert profile_files(anna) == {}


@pytest.mark.server
def test_tune_measures_and_writes_what_it_measured(
    anna: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "cores", lambda: 1)  # which leaves one candidate
    output = done(anna, "tune", "anna", "--profile", "onnxruntime", "--seconds", "0.5")
    row = re.search(r"^onnxruntime, 1 thread per frame +([\d.]+) +([\d.]+) +equal$", output, re.M)
    assert row is not None, output
    assert float(row[1]) > 1
    assert float(row[2]) > 0
    assert re.search(
        r"^frames per second by frames per request: 8: [\d.]+, 16: [\d.]+, 32: ", output, re.M
    )
    text = (anna / "anna_generator/configs/onnxruntime.pbtxt").read_text()
    assert re.search(rf"^# Measured on 1 cores.*: {row[1]} frames per second", text, re.M)
    assert parameter(config(profile_files(anna)["anna_generator"]), "intra_op_thread_count") == "1"


def test_psnr() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    from lipsync_preprocessing.profiles.measuring import psnr_db

    assert psnr_db(black, black) == float("inf")
    assert psnr_db(black + np.uint8(1), black) == pytest.approx(48.1308, abs=1e-3)  # 20 log10(255)
    assert psnr_db(black, black + np.uint8(255)) == pytest.approx(0)


@pytest.mark.server
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_auto_takes_the_fastest_exact_one(anna: Path) -> None:
    output = done(anna, "tune", "anna", "--profile", "auto", "--visual-cache-mb", "64")
    row = re.compile(
        r"^(onnxruntime|openvino-f32), .*? +([\d.]+) +([\d.]+) +(?:equal|[\d.]+)$", re.M
    )
    rows = [(name, float(fps), float(cpu_ms)) for name, fps, cpu_ms in row.findall(output)]
    assert {name for name, _, _ in rows} == {"onnxruntime", "openvino-f32"}
    busy = "the choice is by CPU time" in output
    best = min(rows, key=lambda r: r[2]) if busy else max(rows, key=lambda r: r[1])
    (profile,) = Repository(anna).avatar("anna").profiles
    assert profile == best[0]
    assert ("for clients: --chunk" in output) != busy
    with Server(anna, models=["anna"], profile=profile) as server:
        engine = server.engines()["anna_generator"]
    assert engine.startswith("ONNX Runtime" if profile == "onnxruntime" else "OpenVINO")
