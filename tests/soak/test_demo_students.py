"""The demo avatar teaches smaller generators by the command's defaults, and they say what they hear.

It took 30 minutes on two free cores with bf16 (docs/distil.md).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from motion import face_rect

from lipsync_client import LipSyncClient, RenderOptions
from lipsync_embedded import Server
from lipsync_embedded.accelerator import cpu_has_bf16
from lipsync_preprocessing.bundle import make_repository
from lipsync_preprocessing.cli import main
from lipsync_preprocessing.repository import Repository
from support.demo_motion import pose_of
from support.mouth_opening import matches, opening
from support.toy_avatars import ROOT

HELD_OUT = ROOT / "tests/demo/held_out"


def judge(client: LipSyncClient, clip: str) -> None:
    """Hold the rendered mouth to the drawn one, as the demo avatar's own generator is held."""
    truth = np.array(json.loads((HELD_OUT / f"{clip}.json").read_text())["opening"])
    chunks = client.render(HELD_OUT / f"{clip}.flac", "demo", RenderOptions(output="FRAMES"))
    came = []
    for number, frame in enumerate(np.concatenate([chunk.frames for chunk in chunks])):
        x1, y1, x2, y2 = face_rect(pose_of(number))
        came.append(opening(frame[y1:y2, x1:x2]))
    match = matches(np.array(came), truth)
    print(f"{clip}: correlation {match[4]:.3f}, by shift {np.round(match, 3)}")
    assert match[4] >= 0.9
    assert int(np.argmax(match)) == 4


@pytest.mark.soak
@pytest.mark.server
@pytest.mark.timeout(6 * 3600)
def test_students_of_the_demo_avatar_speak(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    repository = tmp_path / "models"
    make_repository(repository, print)

    def command(name: str, *arguments: str) -> None:
        done = CliRunner().invoke(main, [name, "demo", *arguments, "--repository", str(repository)])
        print(done.output, flush=True)
        assert done.exit_code == 0

    for width in ("1/2", "1/4"):
        command("distil", "--width", width, "--work", str(tmp_path / "work"))
        for profile in ("openvino-f32", "openvino-bf16"):
            if profile == "openvino-f32" or cpu_has_bf16():
                command("tune", "--width", width, "--profile", profile)
    for profile in Repository(repository).avatar("demo").profiles:
        print(profile)
        with (
            Server(repository, profile=profile) as server,
            LipSyncClient(server.grpc_url) as client,
        ):
            for clip in ("woman", "man"):
                judge(client, clip)
