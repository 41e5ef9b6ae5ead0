"""docker/bulk/render-listed, with a folder in place of the object store."""

from __future__ import annotations

import subprocess
from pathlib import Path

import soundfile

from lipsync_embedded import Server
from support.containers import Container, Image
from support.programs import program
from support.triton_calls import speech


def test_each_index_renders_its_share_once(server: Server, tmp_path: Path) -> None:
    program("rclone")
    store = tmp_path / "store"
    store.mkdir()
    soundfile.write(store / "speech.wav", speech(0.6), 16_000)
    lines = [f"speech.wav\ttoy\tout/{n}.mp4" for n in range(3)]
    lines += ["lost.wav\ttoy\tout/3.mp4", "speech.wav\ttoy", "", "", "speech.wav\t\tout/7.mp4"]
    (store / "list.tsv").write_text("\n".join(lines))  # the last line counts without a newline

    def run_index(number: int) -> subprocess.CompletedProcess[str]:
        environment = {
            "STORE": str(store),
            "LIST": "list.tsv",
            "TRITON_URL": server.http_url,
            "JOB_COMPLETIONS": "2",
            "JOB_COMPLETION_INDEX": str(number),
        }
        image = Image("Dockerfile.bulk")
        folder = tmp_path / f"container-{len(list(tmp_path.iterdir()))}"
        return Container(folder, image, {}, tmp_path, environment).run(image.entrypoint)

    first = run_index(0)
    assert sorted(p.name for p in (store / "out").iterdir()) == ["0.mp4", "2.mp4"]
    assert first.returncode == 1  # an incomplete line is never done
    assert "list.tsv, line 5: expected AUDIO<TAB>AVATAR<TAB>VIDEO" in first.stderr
    second = run_index(1)
    assert second.returncode == 1  # a missing file; the index's other video is made all the same
    assert "failed: out/3.mp4" in second.stderr
    assert "list.tsv, line 8: expected" in second.stderr
    assert sorted(p.name for p in (store / "out").iterdir()) == ["0.mp4", "1.mp4", "2.mp4"]
    assert run_index(0).stdout.count("exists already") == 2
