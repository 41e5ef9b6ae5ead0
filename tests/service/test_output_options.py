"""Options that do not go together, shell completion, and the commands of docs/outputs.md."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tritonclient.utils import InferenceServerException

from lipsync_client._cli.main import main
from lipsync_embedded import Server
from support.toy_avatars import ROOT
from support.triton_calls import Triton, speech

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))
MISTAKES = {
    "-o x.avi": "Use one of .mp4",
    "-o -": "name the format, fmp4, ts, bgr24, rgb24",
    "-o - --container mkv": "the formats that can are fmp4, ts, bgr24, rgb24",
    "-o - --format png": "needs --frames-dir",
    "-o x.mp4 --format jpg": "needs --frames-dir",
    "--frames-dir f --format rgb24": "--format png or jpg",
    "--frames-dir f --container ts": "--format png or jpg",
    "--frames-dir f --crf 20": "crf does not apply to png",
    "-o x.gif --crf 20": "crf does not apply to gif, only to mp4, fmp4, ts, mkv, webm",
    "-o x.gif --audio copy": "audio does not apply to gif",
    "-o x.mp4 --fps 10": "fps does not apply to mp4, only to gif, webp",
    "-o x.mp4 --width 100": "width does not apply to mp4",
    "-o x.mp4 --crf 52": "crf must be an integer from 0 to 51 for mp4; got 52",
    "-o x.webm --preset fast": "preset does not apply to webm",
    "-o x.webm --audio aac": "WebM holds Opus",
    "-o x.mp4 --container ts --format bgr24": "--format and --container exclude each other",
    "-o x.ts --audio copy": "the audio is flac, and ts holds only aac, ac3, eac3, mp3, opus",
    "-o x.mp4 --frames-dir f": "name one place",
    "": "name one place",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_options_that_do_not_go_together(clips: Path, line: str) -> None:
    """They are refused before anything is started, and the message says what is possible."""
    arguments = ["render", str(clips / "flac.flac"), "--avatar", "toy", *line.split()]
    result = CliRunner().invoke(main, [*arguments, "--url", "grpc://127.0.0.1:1"])
    assert result.exit_code == 2
    assert MISTAKES[line] in " ".join(result.output.split())


def test_completion(toy_repository: Path, tmp_path: Path) -> None:
    def complete(*words: str) -> list[str]:
        environment = {
            "_LIPSYNC_CLIENT_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("lipsync-client", *words)),
            "COMP_CWORD": str(len(words)),
            "LIPSYNC_REPOSITORY": str(toy_repository),
        }
        done = CliRunner().invoke(main, env=environment, prog_name="lipsync-client")
        return [line.split(",")[-1] for line in done.stdout.split()]

    assert complete("re") == ["render"]
    assert complete("render", "x.wav", "--avatar", "") == ["toy", "wide"]
    assert complete("render", "x.wav", "--avatar", "w") == ["wide"]
    assert complete("render", "x.wav", "--repository", str(tmp_path), "--avatar", "") == []
    assert "webm" in complete("render", "x.wav", "--container", "")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("keyint", [0, 1001, "often"])
def test_the_server_checks_keyint(server: Server, protocol: str, keyint: int | str) -> None:
    with pytest.raises(InferenceServerException, match=f"keyint .* 1 to 1000, got {keyint!r}"):
        Triton(server, protocol).frames("toy", speech(0.3), "H264", {"keyint": keyint})


def test_the_page_on_outputs(
    server: Server, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run its commands, but those that need a player, and its Python."""
    page = (ROOT / "docs/outputs.md").read_text()
    (tmp_path / "speech.mp3").write_bytes((clips / "mp3.mp3").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIPSYNC_URL", server.grpc_url)
    lines = [x for x in page.splitlines() if x.startswith("lipsync-client render")]
    lines = [x.replace("--avatar demo", "--avatar toy") for x in lines if "|" not in x]
    assert len(lines) == 3
    for line in lines:
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}: {result.output}"
    (tmp_path / "talk.mkv").unlink()
    code = page.split("```python\n")[1].split("```")[0].replace('"demo"', '"toy"')
    exec(code.replace("grpc://127.0.0.1:8001", server.grpc_url), {})
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"speech.mp3", "talk.mkv", "talk.gif", "frames", "small.webp"}
