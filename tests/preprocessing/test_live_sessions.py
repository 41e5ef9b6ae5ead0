"""The number of live sessions that a profile tells: what is measured or set, and where it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lipsync_client import LipSyncClient
from lipsync_embedded import Server
from lipsync_preprocessing.avatar import update_generator
from lipsync_preprocessing.profiles import tune
from lipsync_preprocessing.profiles.cpu_time import CpuTime
from lipsync_preprocessing.profiles.live_sessions import live_sessions
from lipsync_preprocessing.repository import Repository
from support.profile_commands import config, done, encoder_of, parameter, profile_files, run
from support.servers import urls

TUNE = ("tune", "anna", "--profile", "onnxruntime", "--seconds", "0.5")
CUDA = ("tune", "anna", "--profile", "cuda")


@pytest.mark.parametrize(
    ("fps", "sessions"),
    [(2, 1), (38, 1), (43.8, 1), (48.8, 1), (70.4, 2), (97.3, 2), (125.4, 3), (150.1, 3)],
)
def test_the_sessions_that_a_speed_carries(fps: float, sessions: int) -> None:
    """As docs/live.md measured them."""
    assert live_sessions(fps) == sessions


@pytest.mark.server
def test_a_server_tells_what_tune_measured(anna: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "cores", lambda: 1)  # which leaves one candidate
    monkeypatch.setattr(CpuTime, "quiet_since", lambda *_: True)  # whatever else runs here
    before = {p: p.read_bytes() for p in anna.glob("*/config.pbtxt")}
    output = done(anna, *TUNE)
    assert {p: p.read_bytes() for p in anna.glob("*/config.pbtxt")} == before
    told = re.search(r"^live sessions at 25 fps: (\d+)$", output, re.M)
    rates = re.search(r"^frames per second by frames per request: (.*)$", output, re.M)
    assert told is not None, output
    assert rates is not None
    best = max(re.findall(r": ([\d.]+)", rates[1]), key=float)
    rounded = [float(best) - 0.05, float(best) + 0.05]
    assert int(told[1]) in [max(1, int(40 / (1000 / fps + 4))) for fps in rounded]
    path = profile_files(anna)["anna"]
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("#   parameters: live_sessions: ") for line in head)
    assert f"# Live sessions: from {best} frames per second, and 4 ms more a frame." in head
    tuned, usual = config(path), config(anna / "anna/config.pbtxt")
    assert parameter(tuned, "live_sessions") == told[1]
    del tuned.parameters["live_sessions"]
    assert tuned == usual
    with Server(anna, models=["anna"], profile="onnxruntime") as server:
        for url in urls(server):
            with LipSyncClient(url) as client:
                assert client.avatar("anna").live_sessions == int(told[1])


@pytest.mark.server
def test_a_busy_machine_tells_none_but_a_number_may_be_set(
    anna: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "cores", lambda: 1)
    monkeypatch.setattr(CpuTime, "quiet_since", lambda *_: False)
    assert "\nlive sessions at 25 fps: 7\n" in done(anna, *TUNE, "--live-sessions", "7")
    assert parameter(config(profile_files(anna)["anna"]), "live_sessions") == "7"
    output = done(anna, *TUNE)
    assert "\nlive sessions at 25 fps: not known, the machine was busy with other work" in output
    assert set(profile_files(anna)) == {"anna_generator", encoder_of(anna)}


def test_a_server_without_the_profile_tells_none(server: Server) -> None:
    for url in urls(server):
        with LipSyncClient(url) as client:
            assert client.avatar("toy").live_sessions is None


def test_a_set_number_lives_with_its_profile(
    anna: Path, other_generator_file: Path, tmp_path: Path
) -> None:
    def inspected(picture: str) -> str:
        return done(anna, "inspect", "anna", "-o", tmp_path / picture)

    assert "live sessions at 25 fps: not known, a GPU is not measured" in done(anna, *CUDA)
    assert "anna" not in profile_files(anna)
    output = done(anna, *CUDA, "--live-sessions", "40")
    assert "live sessions at 25 fps: 40\n" in output
    assert "anna/configs/cuda.pbtxt" in output
    path = anna / "anna/configs/cuda.pbtxt"
    assert parameter(config(path), "live_sessions") == "40"
    assert Repository(anna).avatar("anna").profiles == ("cuda",)
    assert inspected("a.png").endswith("\nprofile cuda\n")
    text = path.read_bytes()
    update_generator(anna, "anna", other_generator_file)
    assert path.read_bytes() == text
    usual = anna / "anna/config.pbtxt"
    usual.write_text(usual.read_text() + "# another\n")
    assert "profile cuda  made from another config.pbtxt: tune again" in inspected("b.png")
    done(anna, *CUDA)
    assert not path.parent.exists()
    done(anna, *CUDA, "--live-sessions", "40")
    assert "anna/configs/cuda.pbtxt" in done(anna, *CUDA, "--remove")
    assert profile_files(anna) == {}
    assert run(anna, *CUDA, "--live-sessions", "0").exit_code == 2
