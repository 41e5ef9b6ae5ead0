"""Every output: read back, it is the same clip, in step and from 0 on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from tritonclient.utils import InferenceServerException

from lipsync_client import InputError, LipSyncClient, OutputFormat, RenderOptions, RenderSummary
from lipsync_client._cli.main import main
from lipsync_embedded import Server
from support.decoded_frames import nal_types, psnr
from support.toy_avatars import ROOT
from support.triton_calls import Triton, speech

CLIENT = str(Path(sys.executable).with_name("lipsync-client"))
SECONDS = 2.03  # 50.75 frames of sound, of which the contract gives 49 a picture
SOUNDS = {  # name: encoder, container, sample rate
    "aac.m4a": ("aac", "mp4", 44100),
    "aac.aac": ("aac", "adts", 48000),
    "aac.ts": ("aac", "mpegts", 44100),
    "mp3.mp3": ("libmp3lame", "mp3", 44100),
    "mp3.mkv": ("libmp3lame", "matroska", 44100),
    "opus.ogg": ("libopus", "ogg", 48000),
    "flac.flac": ("flac", "flac", 48000),
    "ac3.ac3": ("ac3", "ac3", 48000),
    "alac.m4a": ("alac", "mp4", 44100),
}
COPIED = {
    "mp4": list(SOUNDS),
    "fmp4": list(SOUNDS),
    "mkv": list(SOUNDS),
    "ts": [name for name in SOUNDS if not name.startswith(("flac", "alac"))],
    "webm": ["opus.ogg"],
}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[LipSyncClient]:
    with LipSyncClient(server.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same two seconds in every codec, and as a WAV."""
    directory = tmp_path_factory.mktemp("sounds")
    for name, (codec, container, rate) in SOUNDS.items():
        write_sound(directory / name, codec, container, rate)
    soundfile.write(directory / "pcm.wav", speech(SECONDS), 16000)
    return directory


def write_sound(path: Path, codec: str, container: str, rate: int, gap: bool = False) -> None:
    """Mono; with `gap`, two hundred milliseconds of time stamps are left out in the middle."""
    wave = speech(SECONDS * rate / 16000)[: int(SECONDS * rate)]
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            if gap and packet.pts > rate:
                packet.pts = packet.dts = packet.pts + rate // 5
            out.mux(packet)


def write(
    client: LipSyncClient,
    clip: Path,
    path: Path,
    form: OutputFormat | None = None,
    **options: int | str,
) -> RenderSummary:
    plan = RenderOptions(encoder_options=options)
    return client.render_to_file(clip, path, "toy", plan, output_format=form, force=True)


def path_for(directory: Path, container: str) -> Path:
    return directory / f"out.{'mp4' if container == 'fmp4' else container}"


@pytest.fixture(scope="module")
def mp4(client: LipSyncClient, sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mp4") / "out.mp4"
    write(client, sounds / "pcm.wav", path, crf=10)
    return path


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="yuv420p") for frame in video.decode(video=0)]


def packets(path: Path, kind: str) -> list[av.Packet]:
    with av.open(str(path)) as file:
        stream = (file.streams.video if kind == "video" else file.streams.audio)[0]
        return [packet for packet in file.demux(stream) if packet.size]


def heard(path: Path) -> tuple[float, np.ndarray, int]:
    """When the decoded sound begins, seconds; its samples; their rate."""
    with av.open(str(path)) as file:
        frames = [f for f in file.decode(audio=0) if f.samples]
    samples = np.concatenate(
        [f.to_ndarray().reshape(-1).astype(np.float64) for f in frames]
    )  # mono
    if frames[0].format.name.startswith("s"):
        samples = samples / np.iinfo(frames[0].to_ndarray().dtype).max
    return float(frames[0].pts * frames[0].time_base), samples, frames[0].sample_rate


def codecs(path: Path) -> list[str]:
    with av.open(str(path)) as file:
        return sorted(s.codec_context.codec.canonical_name for s in file.streams)


def assert_in_step(path: Path, frames: int) -> None:
    """Both streams from 0 on, and alike in length, as they are decoded."""
    with av.open(str(path)) as file:
        times = [f.pts * f.time_base for f in file.decode(video=0)]
    millisecond = Fraction(1, 1000)  # what Matroska counts in
    assert len(times) == frames
    assert all(abs(t - Fraction(n, 25)) < millisecond for n, t in enumerate(times))
    begin, samples, rate = heard(path)
    # What lies before 0 is an encoder's delay; without one, the first whole packet after 0 begins.
    assert -0.027 < begin < 0.027
    assert abs(begin + len(samples) / rate - frames / 25) < 1 / 25 + 1024 / rate


@pytest.mark.parametrize("container", ["fmp4", "ts", "mkv"])
def test_a_container_holds_the_same_video(
    client: LipSyncClient, sounds: Path, mp4: Path, tmp_path: Path, container: str
) -> None:
    path = path_for(tmp_path, container)
    form = OutputFormat("fmp4") if container == "fmp4" else None  # the others by their suffix
    summary = write(client, sounds / "pcm.wav", path, form, crf=10)
    assert codecs(path) == ["aac", "h264"]
    assert summary.frames == 49
    assert np.array_equal(pictures(path), pictures(mp4))
    assert_in_step(path, 49)
    assert_in_step(mp4, 49)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert (b"moof" in path.read_bytes()) == (container == "fmp4")


def test_webm(client: LipSyncClient, sounds: Path, mp4: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.webm"
    write(client, sounds / "pcm.wav", path, crf=10, keyint=20)
    assert codecs(path) == ["opus", "vp9"]
    assert_in_step(path, 49)
    losses = [psnr(a[:240], b[:240]) for a, b in zip(pictures(path), pictures(mp4), strict=True)]
    assert min(losses) > 30
    keys = [n for n, p in enumerate(packets(path, "video")) if p.is_keyframe]
    assert keys[0] == 0
    assert max(np.diff([*keys, 49])) <= 20
    coarse = tmp_path / "coarse.webm"
    write(client, sounds / "pcm.wav", coarse, crf=55)
    assert coarse.stat().st_size < path.stat().st_size / 2


@pytest.mark.parametrize(("container", "name"), [(c, n) for c in COPIED for n in COPIED[c]])
def test_the_original_sound_is_kept(
    client: LipSyncClient, sounds: Path, tmp_path: Path, container: str, name: str
) -> None:
    """Packet for packet, and each sample at its own time."""
    source, path = sounds / name, path_for(tmp_path, container)
    frames = write(client, source, path, OutputFormat(container)).frames
    original, kept = ([bytes(p) for p in packets(x, "audio")] for x in (source, path))
    if name in ("aac.aac", "aac.ts"):  # there each packet has a header of its own
        original = [packet[7:] for packet in original]
    if container == "ts" and name.startswith("aac"):
        kept = [packet[7:] for packet in kept]
    left_out = original.index(kept[0])
    assert left_out <= (0 if container in ("mp4", "fmp4", "webm") else 1)
    assert kept == original[left_out : left_out + len(kept)]
    assert len(original) - left_out - len(kept) <= 3
    assert_in_step(path, frames)
    _, there, rate = heard(source)  # the server heard this, from its first sample on
    begin, here, same_rate = heard(path)
    assert same_rate == rate
    at, length = round((0.5 - begin) * rate), rate // 2
    part = here[at : at + length]
    lags = range(-rate // 500, rate // 500 + 1)
    alike = {
        lag: np.corrcoef(there[rate // 2 + lag :][:length], part)[0, 1] for lag in lags
    }  # not equal: where a packet is left out, AAC's decoder makes up other noise
    lag = max(alike, key=lambda k: alike[k])
    assert abs(lag) / rate < 0.001  # Matroska rounds to a millisecond
    assert alike[lag] > 0.99


@pytest.mark.parametrize("container", ["mp4", "fmp4", "ts", "mkv"])
@pytest.mark.parametrize("samples", [97_797, 95_400, 9_000, 100, 1])
def test_lengths_at_the_edges_of_the_contracts_count(
    client: LipSyncClient, tmp_path: Path, container: str, samples: int
) -> None:
    """At 48 kHz, where an AAC frame is shortest: 1.94 and 0.69 frames more sound, and clips of a moment."""
    clip, path = tmp_path / "clip.wav", path_for(tmp_path, container)
    soundfile.write(clip, speech(7)[:samples], 48_000)
    assert_in_step(path, write(client, clip, path, OutputFormat(container)).frames)


def test_sound_with_a_gap_is_encoded(client: LipSyncClient, tmp_path: Path) -> None:
    """The server hears no gap, so packets with their own times would leave the picture."""
    clip, path = tmp_path / "gap.mkv", tmp_path / "out.mkv"
    write_sound(clip, "aac", "matroska", 44100, gap=True)
    frames = write(client, clip, path).frames
    assert_in_step(path, frames)
    with pytest.raises(InputError, match=r"gap at 1\.2"):
        write(client, clip, path, OutputFormat("mkv", audio="copy"))


def test_aac_where_aac_is_asked_for(client: LipSyncClient, sounds: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    frames = write(client, sounds / "mp3.mp3", path, OutputFormat("mp4", audio="aac")).frames
    assert codecs(path) == ["aac", "h264"]
    assert_in_step(path, frames)


def test_encoder_options_reach_the_server(
    client: LipSyncClient, server: Server, sounds: Path, tmp_path: Path
) -> None:
    """The file holds what the server answers to the same parameters, and each parameter tells."""
    options = {"crf": 35, "preset": "medium", "keyint": 10}
    path = tmp_path / "out.ts"
    write(client, sounds / "pcm.wav", path, **options)
    came = packets(path, "video")
    keys = [n for n, packet in enumerate(came) if packet.is_keyframe]
    assert keys == [0, 8, 18, 28, 38, 40]
    raw = Triton(server, "grpc")
    wave = soundfile.read(sounds / "pcm.wav", dtype="float32")[0]
    units = raw.frames("toy", wave, "H264", options, first=8, count=32)[:, 0]
    assert [n for n, unit in enumerate(units) if 5 in nal_types(unit)] == [0, 10, 20, 30]
    assert [7 in nal_types(unit) for unit in units] == [5 in nal_types(unit) for unit in units]
    for packet, unit in zip(came[8:40], units, strict=True):
        assert bytes(packet).endswith(unit)  # before it, MPEG-TS has a delimiter
    for changed in ({"crf": 45}, {"preset": "ultrafast"}, {"keyint": 3}):
        other = raw.frames("toy", wave, "H264", options | changed, first=8, count=32)[:, 0]
        assert b"".join(other) != b"".join(units)
        if "crf" in changed:
            assert sum(map(len, other)) < 0.7 * sum(map(len, units))


@pytest.mark.parametrize(("name", "fps", "width"), [("gif", 12.5, 480), ("webp", 10, 160)])
def test_previews(
    client: LipSyncClient,
    sounds: Path,
    mp4: Path,
    tmp_path: Path,
    name: str,
    fps: float,
    width: int,
) -> None:
    path = tmp_path / f"out.{name}"
    write(client, sounds / "pcm.wav", path, OutputFormat(name, fps=fps, width=width))
    if name == "gif":
        with av.open(str(path)) as file:
            frames = [f.to_ndarray(format="bgr24") for f in file.decode(video=0)]
            length = float(file.streams.video[0].duration * file.streams.video[0].time_base)
    else:
        ok, animation = cv2.imreadanimation(str(path))
        assert ok
        assert animation.loop_count == 0  # for ever
        frames = [np.ascontiguousarray(f[:, :, :3]) for f in animation.frames]
        length = sum(animation.durations) / 1000
    step = 25 / fps
    assert len(frames) == int(48 / step) + 1
    assert length == pytest.approx(len(frames) / fps, abs=0.02)
    with av.open(str(mp4)) as file:
        video = [f.to_ndarray(format="bgr24") for f in file.decode(video=0)]
    size = (min(width, 320), min(width, 320) * 3 // 4)
    for n, frame in enumerate(frames):
        expected = cv2.resize(video[int(n * step)], size, interpolation=cv2.INTER_AREA)
        assert frame.shape == expected.shape
        grey, wanted = (cv2.cvtColor(x, cv2.COLOR_BGR2GRAY) for x in (frame, expected))
        assert psnr(grey, wanted) > 24


@pytest.mark.parametrize("name", ["bgr24", "rgb24"])
def test_raw_frames_to_a_pipe(server: Server, sounds: Path, tmp_path: Path, name: str) -> None:
    command = [CLIENT, "render", sounds / "pcm.wav", "-o", "-", "--format", name]
    command += ["--avatar", "toy", "--url", server.grpc_url, "--json"]
    done = subprocess.run(command, capture_output=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b'"frames": 49' in done.stderr
    wave = soundfile.read(sounds / "pcm.wav", dtype="float32")[0]
    raw = Triton(server, "grpc")
    frames = [raw.frames("toy", wave, first=first, count=n) for first, n in ((0, 32), (32, 17))]
    expected = np.concatenate(frames)
    if name == "rgb24":
        expected = expected[..., ::-1]
    came = np.frombuffer(done.stdout, np.uint8).reshape(-1, *expected.shape[1:])
    assert np.array_equal(came, expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("container", ["fmp4", "ts"])
def test_video_to_a_pipe_plays_while_it_grows(
    server: Server, sounds: Path, mp4: Path, tmp_path: Path, container: str
) -> None:
    command = [CLIENT, "render", sounds / "pcm.wav", "-o", "-", "--container", container]
    command += ["--avatar", "toy", "--url", server.grpc_url, "--crf", "10"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.write_bytes(done.stdout)
    assert_in_step(whole, 49)
    assert np.array_equal(pictures(whole), pictures(mp4))
    part.write_bytes(done.stdout[: len(done.stdout) // 2])
    came = []
    with av.open(str(part)) as video, suppress(av.FFmpegError):  # where it was cut
        came.extend(f.to_ndarray(format="yuv420p") for f in video.decode(video=0))
    assert len(came) >= 8
    assert np.array_equal(came[:8], pictures(mp4)[:8])


@pytest.fixture
def piped(server: Server, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a long render to a pipe, and returns it when the first bytes have come."""
    clip = tmp_path / "long.wav"
    soundfile.write(clip, np.tile(speech(2), 30), 16000)
    running = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [CLIENT, "render", str(clip), "-o", "-", *arguments]
        command += ["--avatar", "toy", "--url", server.grpc_url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        running.append(process)
        assert process.stdout is not None
        assert len(os.read(process.stdout.fileno(), 1000)) > 0
        return process

    yield start
    for process in running:
        process.kill()
        with process:  # closes its pipes
            pass


@pytest.mark.parametrize("arguments", [("--format", "bgr24"), ("--container", "fmp4")])
def test_a_reader_that_leaves(
    piped: Callable[..., subprocess.Popen[bytes]], arguments: tuple[str, str]
) -> None:
    """As with any filter: it ends too, and has nothing to say."""
    process = piped(*arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_the_reader_hangs(
    piped: Callable[..., subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    """A full pipe that nobody empties holds up nobody's Ctrl-C."""
    process = piped("--format", "bgr24")
    time.sleep(1)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()


MISTAKES = {
    "-o x.avi": "the suffixes are .mp4",
    "-o -": "standard output takes fmp4, ts, bgr24, rgb24",
    "-o - --container mkv": "what can is fmp4, ts, bgr24, rgb24",
    "-o - --format png": "needs --frames-dir",
    "-o x.mp4 --format jpg": "needs --frames-dir",
    "--frames-dir f --format rgb24": "--format png or jpg",
    "--frames-dir f --container ts": "--format png or jpg",
    "--frames-dir f --crf 20": "crf means nothing for png",
    "-o x.gif --crf 20": "crf means nothing for gif, only for mp4, fmp4, ts, mkv, webm",
    "-o x.gif --audio copy": "audio means nothing for gif",
    "-o x.mp4 --fps 10": "fps means nothing for mp4, only for gif, webp",
    "-o x.mp4 --width 100": "width means nothing for mp4",
    "-o x.mp4 --crf 52": "crf is 0 to 51",
    "-o x.webm --preset fast": "preset means nothing for webm",
    "-o x.webm --audio aac": "WebM holds Opus",
    "-o x.mp4 --container ts --format bgr24": "no --container with it",
    "-o x.ts --audio copy": "its sound is flac, and ts takes only aac, ac3, eac3, mp3, opus",
    "-o x.mp4 --frames-dir f": "either -o",
    "": "either -o",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_what_does_not_go_together(sounds: Path, line: str) -> None:
    """Said before anything is started, with what would go."""
    arguments = ["render", str(sounds / "flac.flac"), "--avatar", "toy", *line.split()]
    said = CliRunner().invoke(main, [*arguments, "--url", "grpc://127.0.0.1:1"])
    assert said.exit_code == 2
    assert MISTAKES[line] in " ".join(said.output.split())


def test_completion(toy_repository: Path, tmp_path: Path) -> None:
    def complete(*words: str) -> list[str]:
        environment = os.environ | {
            "_LIPSYNC_CLIENT_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("lipsync-client", *words)),
            "COMP_CWORD": str(len(words)),
            "LIPSYNC_REPOSITORY": str(toy_repository),
        }
        done = subprocess.run([CLIENT], env=environment, capture_output=True, text=True, timeout=60)
        return [line.split(",")[-1] for line in done.stdout.split()]

    assert complete("re") == ["render"]
    assert complete("render", "x.wav", "--avatar", "") == ["toy", "wide"]
    assert complete("render", "x.wav", "--avatar", "w") == ["wide"]
    assert complete("render", "x.wav", "--repository", str(tmp_path), "--avatar", "") == []
    assert "webm" in complete("render", "x.wav", "--container", "")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("keyint", [0, 1001, "often"])
def test_keyint_is_checked(server: Server, protocol: str, keyint: int | str) -> None:
    with pytest.raises(InferenceServerException, match=f"keyint .* 1 to 1000, got {keyint!r}"):
        Triton(server, protocol).frames("toy", speech(0.3), "H264", {"keyint": keyint})


def test_the_page_on_outputs(
    server: Server, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands as they stand there, but those that need a player, and its Python."""
    page = (ROOT / "docs/outputs.md").read_text()
    (tmp_path / "speech.mp3").write_bytes((sounds / "mp3.mp3").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIPSYNC_URL", server.grpc_url)
    lines = [x for x in page.splitlines() if x.startswith("lipsync-client render")]
    lines = [x.replace("--avatar demo", "--avatar toy") for x in lines if "|" not in x]
    assert len(lines) == 3
    for line in lines:
        said = CliRunner().invoke(main, shlex.split(line)[1:])
        assert said.exit_code == 0, f"{line}: {said.output}"
    (tmp_path / "talk.mkv").unlink()
    code = page.split("```python\n")[1].split("```")[0].replace('"demo"', '"toy"')
    exec(code.replace("grpc://127.0.0.1:8001", server.grpc_url), {})
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"speech.mp3", "talk.mkv", "talk.gif", "frames", "small.webp"}
