"""The earlier systems give the service's frames, so that their speed may stand beside its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lipsync_benchmarks.baselines import Cached, Sequential, composite
from lipsync_benchmarks.baselines_parallel import ParallelComposite, SessionPool
from lipsync_benchmarks.case import Material, prepare, write_raw_repository
from lipsync_benchmarks.job import JobError, JobProcess
from lipsync_benchmarks.network import Network, TritonNetwork
from lipsync_embedded import Server
from lipsync_preprocessing.repository import RAW
from support.toy_avatars import ToyAvatar
from support.triton_calls import Triton, speech

WAVE = speech(0.9)  # more frames than the toy avatar's loop has


@pytest.fixture(scope="module")
def material(
    toy_avatars: dict[str, ToyAvatar], tmp_path_factory: pytest.TempPathFactory
) -> Material:
    toy = toy_avatars["toy"]
    crops = tmp_path_factory.mktemp("crops")
    return prepare(toy.dataset, toy.generator, toy.encoder, crops)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "speech.wav"
    soundfile.write(path, WAVE, 16000, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def served(server: Server) -> np.ndarray:
    """The service's frames, uint8 (n, H, W, 3)."""
    return Triton(server, "grpc").frames("toy", WAVE)


def rendered(job: Sequential) -> np.ndarray:
    """A baseline's frames, taken before they become JPEGs."""
    job.prepare()
    frames: dict[int, np.ndarray] = {}
    job.sink = lambda i, frame: frames.__setitem__(i, frame.copy())
    assert job.run().frames == len(frames)
    return np.stack([frames[i] for i in range(len(frames))])


def assert_the_same(came: np.ndarray, expected: np.ndarray) -> None:
    """One grey level at most, and hardly ever that: ONNX Runtime rounds by the number of threads."""
    assert came.shape == expected.shape
    difference = np.abs(came.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Sequential, {}),
        (Cached, {}),
        (Cached, {"tensor_cache": False}),
        (ParallelComposite, {"workers": 4, "batch": 4}),
        (ParallelComposite, {"workers": 1, "batch": 3}),
        (SessionPool, {"workers": 1, "batch": 1}),
        (SessionPool, {"workers": 8, "batch": 2}),
        (SessionPool, {"workers": 2, "batch": 8}),
    ],
)
def test_frames_are_the_services(
    kind: type[Sequential],
    options: dict[str, int],
    material: Material,
    sound: Path,
    served: np.ndarray,
    tmp_path: Path,
) -> None:
    assert_the_same(rendered(kind(material, sound, tmp_path, **options)), served)


def test_a_paste_of_its_own_kind_is_seen(
    material: Material,
    sound: Path,
    served: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rounding in place of truncation, a mistake of one grey level, does not pass for the same."""

    def rounding(frame, crop, rect, output):  # type: ignore[no-untyped-def]
        composite(frame, crop, rect, np.minimum(output + 0.5 / 255, 1))

    monkeypatch.setattr("baselines.composite", rounding)
    came = rendered(Sequential(material, sound, tmp_path))
    with pytest.raises(AssertionError):
        assert_the_same(came, served)


def test_a_folder_of_jpegs_from_a_process_of_its_own(
    material: Material, sound: Path, served: np.ndarray, tmp_path: Path
) -> None:
    import cv2

    with JobProcess(Cached(material, sound, tmp_path / "out")) as job:
        seen: list[float] = []
        outcome = job.run(between=lambda: seen.append(job.process.memory_info().rss), every_s=0.01)
    assert outcome.frames == len(served)
    assert 0 < outcome.first_frame_s < outcome.seconds
    assert seen
    assert job.start_s > 0
    last = cv2.imread(str(tmp_path / f"out/{len(served) - 1}.jpg"))
    assert np.abs(last.astype(int) - served[-1]).mean() < 3  # JPEG's loss


def test_a_failing_job_says_why(material: Material, tmp_path: Path) -> None:
    lost = Cached(material, tmp_path / "none.wav", tmp_path)
    with JobProcess(lost) as job, pytest.raises(JobError, match=r"none\.wav"):
        job.run()


@pytest.fixture(scope="module")
def raw_server(
    toy_repository: Path,
    toy_avatars: dict[str, ToyAvatar],
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    target = tmp_path_factory.mktemp("raw") / "models"
    write_raw_repository(toy_repository, "toy", toy_avatars["toy"].generator, target)
    with Server(target) as running:
        yield running


@pytest.mark.parametrize("batch", [1, 4, 8])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_triton_gives_the_bare_networks_outputs(
    protocol: str, batch: int, material: Material, sound: Path, raw_server: Server
) -> None:
    url = raw_server.grpc_url if protocol == "grpc" else raw_server.http_url
    bare = Network(material, sound, count=21)
    triton = TritonNetwork(material, sound, 21, batch, url=url, model="toy" + RAW)
    outputs = []
    for job in (bare, triton):
        job.prepare()
        outputs.append(np.concatenate([output for output, _ in job.outputs()]))
    assert outputs[0].shape == (21, 3, 320, 320)
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-5
    assert outputs[0].std(axis=0).max() > 1e-3  # speech moves it


def test_numbers_of_the_outputs(material: Material, sound: Path) -> None:
    job = Network(material, sound, count=5, batch=2)
    job.prepare()
    whole = np.concatenate([output for output, _ in job.outputs()]).astype(np.float64)
    outcome = job.run()
    expected = (whole.mean(), whole.std(), whole.min(), whole.max())
    assert outcome.numbers == pytest.approx(expected, rel=1e-6)
    assert [frames for _, frames in outcome.calls] == [2, 2, 1]
    assert outcome.seconds == pytest.approx(sum(seconds for seconds, _ in outcome.calls))
