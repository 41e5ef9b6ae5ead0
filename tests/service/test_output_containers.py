"""Each container and preview, read back: the same video, in step with its audio."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile

from lipsync_client import OutputFormat
from lipsync_client._output.formats import FormatName
from lipsync_embedded import Server
from service.conftest import Render
from support.decoded_frames import nal_types, psnr
from support.media_files import assert_in_step, codecs, packets, video_frames
from support.triton_calls import Triton


@pytest.mark.parametrize("container", ["fmp4", "ts", "mkv"])
def test_a_container_holds_the_same_video(
    render: Render, clips: Path, mp4: Path, tmp_path: Path, container: str
) -> None:
    path = tmp_path / f"out.{'mp4' if container == 'fmp4' else container}"
    output_format = OutputFormat("fmp4") if container == "fmp4" else None  # others by their suffix
    summary = render(clips / "pcm.wav", path, output_format, crf=10)
    assert codecs(path) == ["aac", "h264"]
    assert summary.frames == 49
    assert np.array_equal(video_frames(path), video_frames(mp4))
    assert_in_step(path, 49)
    assert_in_step(mp4, 49)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert (b"moof" in path.read_bytes()) == (container == "fmp4")


def test_webm(render: Render, clips: Path, mp4: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.webm"
    render(clips / "pcm.wav", path, crf=10, keyint=20)
    assert codecs(path) == ["opus", "vp9"]
    assert_in_step(path, 49)
    pairs = zip(video_frames(path), video_frames(mp4), strict=True)
    assert min(psnr(a[:240], b[:240]) for a, b in pairs) > 30
    keyframes = [n for n, p in enumerate(packets(path, "video")) if p.is_keyframe]
    assert keyframes[0] == 0
    assert max(np.diff([*keyframes, 49])) <= 20
    coarse = tmp_path / "coarse.webm"
    render(clips / "pcm.wav", coarse, crf=55)
    assert coarse.stat().st_size < path.stat().st_size / 2


def test_encoder_options_reach_the_server(
    render: Render, server: Server, clips: Path, tmp_path: Path
) -> None:
    """The file holds the server's response to the same parameters, and each parameter has an effect."""
    options = {"crf": 35, "preset": "medium", "keyint": 10}
    path = tmp_path / "out.ts"
    render(clips / "pcm.wav", path, **options)
    written = packets(path, "video")
    keyframes = [n for n, packet in enumerate(written) if packet.is_keyframe]
    assert keyframes == [0, 8, 18, 28, 38, 40]
    triton = Triton(server, "grpc")
    wave = soundfile.read(clips / "pcm.wav", dtype="float32")[0]
    units = triton.frames("toy", wave, "H264", options, first=8, count=32)[:, 0]
    assert [n for n, unit in enumerate(units) if 5 in nal_types(unit)] == [0, 10, 20, 30]
    assert [7 in nal_types(unit) for unit in units] == [5 in nal_types(unit) for unit in units]
    for packet, unit in zip(written[8:40], units, strict=True):
        assert bytes(packet).endswith(unit)  # MPEG-TS puts a delimiter before it
    for changed in ({"crf": 45}, {"preset": "ultrafast"}, {"keyint": 3}):
        other = triton.frames("toy", wave, "H264", options | changed, first=8, count=32)[:, 0]
        assert b"".join(other) != b"".join(units)
        if "crf" in changed:
            assert sum(map(len, other)) < 0.7 * sum(map(len, units))


@pytest.mark.parametrize(("name", "fps", "width"), [("gif", 12.5, 480), ("webp", 10, 160)])
def test_previews(
    render: Render, clips: Path, mp4: Path, tmp_path: Path, name: FormatName, fps: float, width: int
) -> None:
    path = tmp_path / f"out.{name}"
    render(clips / "pcm.wav", path, OutputFormat(name, fps=fps, width=width))
    if name == "gif":
        with av.open(str(path)) as file:
            frames = [f.to_ndarray(format="bgr24") for f in file.decode(video=0)]
            length = float(file.streams.video[0].duration * file.streams.video[0].time_base)
    else:
        ok, animation = cv2.imreadanimation(str(path))
        assert ok
        assert animation.loop_count == 0  # without end
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
        assert psnr(*(cv2.cvtColor(x, cv2.COLOR_BGR2GRAY) for x in (frame, expected))) > 24
