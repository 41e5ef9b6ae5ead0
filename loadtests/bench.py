"""Speed of the whole pipeline against the bare ONNX Runtime session, side by side in one run.

    python loadtests/bench.py [--pairs 5] [--width 1.0] [--page docs/benchmarks.md]

The case is the one of the earlier systems around this model: 10.22 s of speech, 1280x720, the network of
the true size with seeded random weights. Rows take turns, so that a noisy machine is noisy for all.
"""

from __future__ import annotations

import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime
import psutil
import soundfile
from lipsync_client import LipSyncClient, Plan, Summary
from lipsync_embedded import Server
from lipsync_preprocessing import networks
from lipsync_preprocessing.avatar import fill_template

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "bench"
SECONDS = 10.22
BARE_FRAMES = 64


@dataclass
class Row:
    """One way to make frames, and what its runs came to."""

    name: str
    run: Callable[[], Summary]
    server: Server | None = None  # the one it runs on, if not the usual
    fps: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)


def build(width: float) -> tuple[Path, Path]:
    """The demo avatar's frames with networks of a width; the repository and the plain 99.onnx."""
    repository, generator = WORK / f"models-{width}", WORK / f"99-{width}.onnx"
    if not (repository / "demo_compositor/1/frames.npz").exists():
        shutil.rmtree(repository, ignore_errors=True)
        WORK.mkdir(parents=True, exist_ok=True)
        if not (WORK / "dataset").exists():
            sys.path.append(str(ROOT / "examples/demo"))
            from draw import write_dataset

            click.echo("drawing the avatar ...", err=True)
            write_dataset(WORK / "dataset")
        weights = networks.random_generator_state(width)
        onnx.save(networks.build_generator(weights), str(generator))
        encoder = WORK / "audio_encoder.onnx"
        onnx.save(networks.build_audio_encoder(networks.random_audio_encoder_state()), str(encoder))
        built = shutil.ignore_patterns("*.onnx", "*.npz")
        shutil.copytree(ROOT / "model_repository", repository, ignore=built)
        fill_template(repository, "demo", WORK / "dataset", generator, encoder)
    return repository, generator


def bare_session(generator: Path) -> Callable[[], Summary]:
    """Frame by frame through ONNX Runtime, two threads: inputs in memory, outputs thrown away."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(psutil.Process().cpu_affinity() or [0])
    session = onnxruntime.InferenceSession(
        str(generator), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    feeds = {
        "input": rng.random((1, 6, 320, 320), np.float32),
        "audio": rng.standard_normal((1, 32, 16, 16)).astype(np.float32),
    }

    def run() -> Summary:
        session.run(None, feeds)
        begun = time.perf_counter()
        for _ in range(BARE_FRAMES):
            session.run(None, feeds)
        seconds = time.perf_counter() - begun
        return Summary(generator, BARE_FRAMES, seconds, seconds / BARE_FRAMES)

    return run


def cpu_seconds(server: Server | None) -> float:
    """CPU time so far of this process and of the server's."""
    processes = [psutil.Process()]
    if server is not None and server.pid is not None:
        processes += psutil.Process(server.pid).children(recursive=True)
    return sum(sum(p.cpu_times()[:2]) for p in processes)


def measure(row: Row, server: Server) -> None:
    before = cpu_seconds(server)
    summary = row.run()
    row.fps.append(summary.fps)
    row.cpu_ms.append((cpu_seconds(server) - before) / summary.frames * 1000)
    row.first_s.append(summary.first_frame_s)


def memory_mb(server: Server) -> dict[str, float]:
    """Memory of the server's own (USS), by model."""
    result = {}
    for process in psutil.Process(server.pid).children(recursive=True):
        model = next(
            (Path(a).parts[-3] for a in process.cmdline() if "/1/model." in a), process.name()
        )
        result[model] = process.memory_full_info().uss / 2**20
    return result


def speech_file(seconds: float) -> Path:
    """The example speech, repeated to a length."""
    samples, rate = soundfile.read(ROOT / "examples/speech.wav", dtype="float32")
    path = WORK / f"speech-{seconds:g}.wav"
    soundfile.write(path, np.resize(samples, int(seconds * rate)), rate)
    return path


@click.command()
@click.option("--pairs", default=5, help="Times each row runs.")
@click.option("--width", default=1.0, help="Width of the network; 1 is the true size.")
@click.option("--seconds", default=SECONDS, help="Length of the clip.")
@click.option(
    "--memory-frames", default=2000, help="Frames rendered while memory is watched; 0 for none."
)
@click.option(
    "--page", type=click.Path(path_type=Path), help="Write the results here, as Markdown."
)
def main(pairs: int, width: float, seconds: float, memory_frames: int, page: Path | None) -> None:
    """Measure, print a table, and write the page."""
    repository, generator = build(width)
    speech = speech_file(seconds)
    begun = time.perf_counter()
    with (
        Server(repository) as server,
        Server(repository, cpu_engine="openvino") as with_openvino,
        LipSyncClient(with_openvino.grpc_url) as openvino_client,
        tempfile.TemporaryDirectory(dir=WORK) as scratch,
        LipSyncClient(server.grpc_url) as client,
    ):
        ready_s = (time.perf_counter() - begun) / 2

        def render(by: LipSyncClient, name: str, kind: str | None) -> Callable[[], Summary]:
            target = Path(scratch) / name
            return lambda: by.render_to_file(speech, target, "demo", frames=kind, force=True)

        def raw() -> Summary:
            start = time.perf_counter()
            first, frames = 0.0, 0
            for chunk in client.render(speech, "demo", Plan(output="FRAMES")):
                first = first or time.perf_counter() - start
                frames += len(chunk.frames)
            return Summary(speech, frames, time.perf_counter() - start, first)

        rows = [
            Row("ONNX Runtime, bare generator, frame by frame", bare_session(generator)),
            Row("this project, speech to MP4 (H.264 + AAC)", render(client, "a.mp4", None)),
            Row(
                "the same, server with --cpu-engine openvino",
                render(openvino_client, "b.mp4", None),
                with_openvino,
            ),
            Row("this project, speech to a folder of JPEGs", render(client, "jpg", "jpg")),
            Row("this project, speech to raw frames over gRPC", raw),
        ]
        for row in rows[1:3]:
            row.run()  # the first run of a server is nobody's measure
        for turn in range(pairs):
            for row in rows:
                click.echo(f"{turn + 1}/{pairs} {row.name}", err=True)
                measure(row, row.server or server)
        text = table(rows, ready_s, width)
        if memory_frames:
            text += memory_table(server, client, Path(scratch), memory_frames)
    click.echo(text)
    if page is not None:
        page.write_text(text)


def table(rows: list[Row], ready_s: float, width: float) -> str:
    """The results as Markdown."""
    lines = [
        "# Benchmarks\n",
        f"`make bench` wrote this page on {machine()}.\n",
        f"{SECONDS} s of speech, 1280x720, network width {width:g} (1 is the true size) with seeded random"
        " weights, which draw noise no face shows and so cost the H.264 encoder more than one. Rows took"
        " turns; medians, with the least and the most in brackets. The ratio is to the first row of the"
        f" same turn. The server was ready {ready_s:.1f} s after its start.\n",
        "| | FPS | ratio | CPU ms a frame | first frame s |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        ratios = [a / b for a, b in zip(row.fps, rows[0].fps, strict=True)]
        cells = [
            spread(row.fps),
            spread(ratios, 2),
            spread(row.cpu_ms),
            f"{statistics.median(row.first_s):.2f}",
        ]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def memory_table(server: Server, client: LipSyncClient, scratch: Path, frames: int) -> str:
    """Memory of every process before and after a long render."""
    client.render_to_file(speech_file(frames / 50), scratch / "warm.mp4", "demo")
    ours = psutil.Process()
    before, client_before = memory_mb(server), ours.memory_full_info().uss / 2**20
    client.render_to_file(speech_file(frames / 25), scratch / "long.mp4", "demo")
    after, client_after = memory_mb(server), ours.memory_full_info().uss / 2**20
    lines = [f"\nMemory of its own (USS, MB) before and after {frames} frames more:\n"]
    lines += ["| process | before | after |", "|---|---|---|"]
    lines += [f"| {m} | {before[m]:.0f} | {after[m]:.0f} |" for m in sorted(before)]
    lines.append(f"| client and benchmark | {client_before:.0f} | {client_after:.0f} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int = 1) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def machine() -> str:
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    cores = len(psutil.Process().cpu_affinity() or [0])
    versions = f"ONNX Runtime {onnxruntime.__version__}, Python {platform.python_version()}"
    return f"{cores} cores of {model}, {versions}"


if __name__ == "__main__":
    main()
