"""`lipsync-client render` with unusual inputs and outputs: it works, or says why not in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from lipsync_embedded import Server
from support.audio_files import encode, voices
from support.media_files import assert_in_step, codecs, decoded_audio, video_frames

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))


class Render:
    """The command, with an avatar and a server."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder

    def command(self, *arguments: str | Path) -> list[str]:
        return [CLIENT, "render", *map(str, arguments), "--avatar", "toy", "--url", self._url]

    def __call__(
        self, *arguments: str | Path, data: bytes | None = None, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            self.command(*arguments), input=data, capture_output=True, timeout=120,
            cwd=self._folder, env=os.environ | environment,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        return done


@pytest.fixture
def command(server: Server, tmp_path: Path) -> Render:
    """The command, in an empty folder."""
    return Render(server.grpc_url, tmp_path)


@pytest.fixture
def unreachable(tmp_path: Path) -> Render:
    """The command with a server that is not there: an error comes before it is asked."""
    return Render("grpc://127.0.0.1:1", tmp_path)


@pytest.mark.parametrize("name", ["a:b.m4a", "a b.m4a", "-x.m4a", "%d ä.m4a", "x" * 251 + ".m4a"])
def test_unusual_names(command: Render, clips: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((clips / "aac.m4a").read_bytes())
    out = f"{name[:-4]}.mp4"
    done = command("-o", f"./{out}", "--resume", f"./{name}" if name[0] == "-" else name)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, out])
    assert codecs(tmp_path / out) == ["aac", "h264"]


@pytest.mark.parametrize("name", ["aac.m4a", "pcm.wav"])
def test_standard_input(command: Render, clips: Path, tmp_path: Path, name: str) -> None:
    """Also in a format that cannot be read from a pipe: the index of aac.m4a is at its end."""
    done = command("-", "-o", "out.mp4", data=(clips / name).read_bytes())
    assert done.returncode == 0, done.stderr
    assert_in_step(tmp_path / "out.mp4", len(video_frames(tmp_path / "out.mp4")))
    assert done.stderr == b""


def test_a_fifo_in_and_a_fifo_out(command: Render, clips: Path, tmp_path: Path) -> None:
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    received: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda: (tmp_path / "in").write_bytes((clips / "pcm.wav").read_bytes())
        ),
        threading.Thread(target=lambda: received.append((tmp_path / "out").read_bytes())),
    ]
    for thread in threads:
        thread.start()
    done = command("in", "-o", "out", "--container", "ts", "--force")
    for thread in threads:
        thread.join(60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").is_fifo()
    (tmp_path / "received.ts").write_bytes(received[0])
    assert_in_step(tmp_path / "received.ts", 49)


REFUSED = {
    "none.wav -o out.mp4": (1, "none.wav: no such file"),
    "https://example.org/a.mp3 -o out.mp4": (1, "is a URL, which is not read: download the file"),
    "file:///a.mp3 -o out.mp4": (1, "is a URL, which is not read"),
    "clip.wav -o rtmp://example.org/x.mp4": (1, "is a URL, and a render is written to a path"),
    "clip.wav -o fifo --container mp4": (2, "mp4 cannot be written to the pipe or device fifo"),
    "clip.wav -o fifo --container ts --resume": (2, "cannot be resumed"),
    "clip.wav --frames-dir fifo": (2, "png cannot be written to the pipe or device fifo"),
    "clip.wav -o /dev/null": (2, "mp4 cannot be written to the pipe or device /dev/null"),
    "clip.wav --frames-dir .": (1, "holds the current directory"),
    "clip.wav --frames-dir .. --force": (1, "holds the current directory"),
    "clip.wav --frames-dir photos --force": (1, "holds 'IMG_0001.jpg', which is not from a render"),
    "clip.wav -o photos --force": (1, "photos is a folder; name a file in it"),
    "clip.wav -o clip.wav/out.mp4": (1, "clip.wav does not exist"),
    "clip.wav -o missing/out.mp4": (1, "missing does not exist"),
    f"{'x' * 256} -o out.mp4": (1, "File name too long"),
    f"clip.wav -o {'x' * 256}": (1, "File name too long"),
    "clip.wav -o out.mp4 --track 2": (1, "has the audio tracks 1 to 1; there is no track 2"),
    "photos -o out.mp4": (1, "got a directory"),
    "/dev/zero -o out.mp4": (1, "expected an audio or video file"),
    "list.ffconcat -o out.mp4": (1, "got a playlist"),
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_sentence_before_a_server_is_asked(
    unreachable: Render, clips: Path, tmp_path: Path, line: str
) -> None:
    (tmp_path / "clip.wav").write_bytes((clips / "pcm.wav").read_bytes())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/IMG_0001.jpg").write_bytes(b"precious")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile clip.wav\n")
    os.mkfifo(tmp_path / "fifo")
    before = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")}
    done = unreachable(*line.split())
    code, message = REFUSED[line]
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.decode().split())
    assert done.stdout == b""
    assert {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def write_nan(path: Path) -> None:
    samples = voices(16000, 1, 1.0)[0]
    samples[8000] = np.nan
    soundfile.write(path, samples, 16000, subtype="FLOAT")


def test_nothing_on_standard_input(unreachable: Render) -> None:
    done = unreachable("-", "-o", "out.mp4", data=b"")
    assert done.returncode == 1
    assert b"standard input: expected an audio or video file, got nothing" in done.stderr


@pytest.mark.parametrize("container", ["mp4", "gif"])
def test_a_sample_that_is_not_a_number(command: Render, tmp_path: Path, container: str) -> None:
    write_nan(tmp_path / "nan.wav")
    done = command("nan.wav", "-o", f"out.{container}")
    assert done.returncode == 1
    assert (
        b"the audio must be finite, between -1 and 1; the sample at 0.500 s is nan" in done.stderr
    )
    assert [p.name for p in tmp_path.iterdir()] == ["nan.wav"]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 64 kB."""
    folder = tmp_path / "mount"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_mount(unreachable: Render, clips: Path, mount: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
    for target in (["-o", str(mount / "out.mp4")], ["--frames-dir", str(mount / "frames")]):
        done = unreachable(clips / "pcm.wav", *target)
        assert done.returncode == 1
        assert b"because of its permissions or a read-only file system" in done.stderr
    done = unreachable(clips / "pcm.wav", "--frames-dir", mount)
    assert done.returncode == 1
    assert b"is a mount point" in done.stderr


def test_a_full_temporary_directory(unreachable: Render, clips: Path, mount: Path) -> None:
    data = (clips / "pcm.wav").read_bytes()
    assert len(data) > 64_000 - 4096
    done = unreachable("-", "-o", "out.mp4", data=data * 2, TMPDIR=str(mount))
    assert done.returncode == 1
    assert b"No space left on device. Set TMPDIR to a directory with room for it" in done.stderr
    assert list(mount.iterdir()) == []


def test_a_damaged_clip(command: Render, clips: Path, tmp_path: Path) -> None:
    """It is rendered with a warning, its audio encoded; --strict refuses it."""
    data = bytearray((clips / "aac.m4a").read_bytes())
    data[6000:6200] = b"\xff" * 200
    (tmp_path / "clip.m4a").write_bytes(data)
    done = command("clip.m4a", "-o", "out.mp4", "--json")
    assert done.returncode == 0, done.stderr
    warnings = json.loads(done.stdout)["warnings"]
    assert len(warnings) == 1
    assert "silence takes their place" in warnings[0]
    assert done.stderr.decode() == f"lipsync-client: warning: {warnings[0]}\n"
    assert_in_step(tmp_path / "out.mp4", json.loads(done.stdout)["frames"])
    done = command("clip.m4a", "-o", "strict.mp4", "--strict")
    assert done.returncode == 1
    assert b"Replace or re-encode the file" in done.stderr
    done = command("clip.m4a", "-o", "strict.mp4", "--audio", "copy")
    assert done.returncode == 1
    assert b"cannot be decoded" in done.stderr
    assert not (tmp_path / "strict.mp4").exists()


def test_a_rate_that_changes_in_the_clip(command: Render, tmp_path: Path) -> None:
    """Both parts of the output have their own pitch."""
    tones = [np.sin(2 * np.pi * hz * np.arange(2 * rate) / rate)[None].astype(np.float32) * 0.5
             for hz, rate in ((440, 24000), (700, 48000))]  # fmt: skip
    parts = [
        encode(tmp_path / f"{n}.aac", tone, rate, "aac", "adts")
        for n, (tone, rate) in enumerate(zip(tones, (24000, 48000), strict=True))
    ]
    (tmp_path / "clip.aac").write_bytes(b"".join(p.read_bytes() for p in parts))
    done = command("clip.aac", "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    assert_in_step(tmp_path / "out.mp4", len(video_frames(tmp_path / "out.mp4")))
    start, samples, rate = decoded_audio(tmp_path / "out.mp4")
    for begin, hz in ((0.5, 440), (2.7, 700)):
        part = samples[int((begin - start) * rate) :][:rate]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(rate)))
        assert abs(int(spectrum.argmax()) - hz) <= 1


@pytest.mark.parametrize(
    ("name", "copied"), [("alac.m4a", False), ("ac3.ac3", False), ("flac.flac", True)]
)
def test_only_audio_that_browsers_play_is_copied(
    command: Render, clips: Path, tmp_path: Path, name: str, copied: bool
) -> None:
    assert command(clips / name, "-o", "out.mp4").returncode == 0
    assert codecs(tmp_path / "out.mp4")[0] == (name.split(".")[1] if copied else "aac")


def test_the_audio_track_is_chosen(command: Render, tmp_path: Path) -> None:
    """By --track, else by the mark; and the choice is printed."""
    write_tracks(tmp_path / "clip.mkv", (440, 700), default=2)
    for arguments, hz in (([], 700), (["--track", "1"], 440), (["--track", "2"], 700)):
        done = command("clip.mkv", "-o", "out.mp4", "--force", *arguments)
        assert done.returncode == 0, done.stderr
        note = b"audio track 2 of 2 (aac, mono, language eng) is read; --track chooses another"
        assert (note in done.stderr) == (not arguments)
        _, samples, rate = decoded_audio(tmp_path / "out.mp4")
        assert abs(int(np.abs(np.fft.rfft(samples[:rate])).argmax()) - hz) <= 2


def write_tracks(path: Path, tones_hz: tuple[int, ...], default: int) -> None:
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("aac", rate=16000, layout="mono") for _ in tones_hz]
        for n, stream in enumerate(streams, 1):
            marked = av.stream.Disposition.default if n == default else 0
            stream.disposition = av.stream.Disposition(marked)
            stream.metadata["language"] = "eng"
        for hz, stream in zip(tones_hz, streams, strict=True):
            tone = np.sin(2 * np.pi * hz * np.arange(24000) / 16000)[None].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(tone * 0.5, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            out.mux([*stream.encode(frame), *stream.encode(None)])
