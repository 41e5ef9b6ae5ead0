"""The earlier systems make the service's frames, so that their speed can be compared with its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lipsync_benchmarks.baselines.arithmetic import Floats, Image, composite
from lipsync_benchmarks.baselines.network import Network, TritonNetwork
from lipsync_benchmarks.baselines.parallel import ParallelComposite, SessionPool
from lipsync_benchmarks.baselines.sequential import Cached, Sequential
from lipsync_benchmarks.case import Rectangle, RenderInputs, prepare
from lipsync_benchmarks.job import JobError, JobProcess
from lipsync_benchmarks.repositories import write_raw_repository
from lipsync_embedded import Server
from lipsync_preprocessing.repository import RAW
from support.servers import ServerPool
from support.toy_avatars import ToyAvatar
from support.triton_calls import Triton, speech

WAVE = speech(0.9)  # more frames than the toy avatar's loop has


@pytest.fixture(scope="module")
def inputs(
    toy_avatars: dict[str, ToyAvatar], tmp_path_factory: pytest.TempPathFactory
) -> RenderInputs:
    toy = toy_avatars["toy"]
    crops = tmp_path_factory.mktemp("crops")
    return prepare(toy.dataset, toy.generator, toy.encoder, crops)


@pytest.fixture(scope="module")
def audio_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "speech.wav"
    soundfile.write(path, WAVE, 16000, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def served(server: Server) -> Image:
    """Return the service's frames, uint8 (n, H, W, 3) BGR."""
    return Triton(server, "grpc").frames("toy", WAVE)


def rendered(job: Sequential) -> Image:
    """Return a baseline's frames, received before they become JPEGs."""
    frames: dict[int, Image] = {}
    job.sink = lambda i, frame: frames.__setitem__(i, frame.copy())
    job.prepare()
    assert job.run().frames == len(frames)
    return np.stack([frames[i] for i in range(len(frames))])


def assert_equal_frames(actual: Image, expected: Image) -> None:
    """Allow one grey level in a few pixels: ONNX Runtime rounds differently with the number of threads."""
    assert actual.shape == expected.shape
    difference = np.abs(actual.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(
    "make",
    [
        Sequential,
        Cached,
        partial(Cached, tensor_cache=False),
        partial(ParallelComposite, workers=4, batch=4),
        partial(ParallelComposite, workers=1, batch=3),
        partial(SessionPool, workers=1, batch=1),
        partial(SessionPool, workers=8, batch=2),
        partial(SessionPool, workers=2, batch=8),
    ],
)
def test_frames_are_the_services(
    make: Callable[[RenderInputs, Path, Path], Sequential],
    inputs: RenderInputs,
    audio_file: Path,
    served: Image,
    tmp_path: Path,
) -> None:
    assert_equal_frames(rendered(make(inputs, audio_file, tmp_path)), served)


def test_a_different_paste_is_noticed(
    inputs: RenderInputs,
    audio_file: Path,
    served: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fail for rounding in place of truncation, a mistake of one grey level."""

    def rounding(frame: Image, crop: Image, rect: Rectangle, output: Floats) -> None:
        composite(frame, crop, rect, np.minimum(output + np.float32(0.5 / 255), 1))

    monkeypatch.setattr("lipsync_benchmarks.baselines.sequential.composite", rounding)
    actual = rendered(Sequential(inputs, audio_file, tmp_path))
    with pytest.raises(AssertionError):
        assert_equal_frames(actual, served)


def test_a_folder_of_jpegs_from_a_process_of_its_own(
    inputs: RenderInputs, audio_file: Path, served: Image, tmp_path: Path
) -> None:
    import cv2

    with JobProcess(Cached(inputs, audio_file, tmp_path / "out")) as job:
        seen: list[float] = []
        outcome = job.run(between=lambda: seen.append(job.process.memory_info().rss), every_s=0.01)
    assert outcome.frames == len(served)
    assert 0 < outcome.first_frame_s < outcome.seconds
    assert seen
    assert job.start_s > 0
    last = cv2.imread(str(tmp_path / f"out/{len(served) - 1}.jpg"))
    assert last is not None
    assert np.abs(last.astype(int) - served[-1]).mean() < 3  # JPEG's loss


def test_a_failing_job_names_its_error(inputs: RenderInputs, tmp_path: Path) -> None:
    without_audio = Cached(inputs, tmp_path / "none.wav", tmp_path)
    with JobProcess(without_audio) as job, pytest.raises(JobError, match=r"none\.wav"):
        job.run()


@pytest.fixture(scope="module")
def raw_server(
    servers: ServerPool,
    toy_repository: Path,
    toy_avatars: dict[str, ToyAvatar],
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    target = tmp_path_factory.mktemp("raw") / "models"
    write_raw_repository(toy_repository, "toy", toy_avatars["toy"].generator, target, threads=2)
    return servers.get(target)


@pytest.mark.parametrize("batch", [1, 4, 8])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_triton_gives_the_bare_networks_outputs(
    protocol: str, batch: int, inputs: RenderInputs, audio_file: Path, raw_server: Server
) -> None:
    url = raw_server.grpc_url if protocol == "grpc" else raw_server.http_url
    bare = Network(inputs, audio_file, count=21)
    triton = TritonNetwork(inputs, audio_file, 21, batch, url=url, model="toy" + RAW)
    outputs = []
    for job in (bare, triton):
        job.prepare()
        outputs.append(np.concatenate([output for output, _ in job.outputs()]))
    assert outputs[0].shape == (21, 3, 320, 320)
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-5
    assert outputs[0].std(axis=0).max() > 1e-3  # the output depends on the speech


def test_statistics_of_the_outputs(inputs: RenderInputs, audio_file: Path) -> None:
    job = Network(inputs, audio_file, count=5, batch=2)
    job.prepare()
    whole = np.concatenate([output for output, _ in job.outputs()]).astype(np.float64)
    outcome = job.run()
    expected = (whole.mean(), whole.std(), whole.min(), whole.max())
    assert outcome.output_statistics == pytest.approx(expected, rel=1e-6)
    assert [frames for _, frames in outcome.calls] == [2, 2, 1]
    assert outcome.seconds == pytest.approx(sum(seconds for seconds, _ in outcome.calls))
