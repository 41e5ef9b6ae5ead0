"""The sections that measure the network; each runs in a process of its own."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from ..case import machine
from .network import (
    CPU,
    CUDA,
    FP16,
    FP32,
    TENSORRT,
    TF32,
    TRT,
    Feeds,
    Unavailable,
    compiled,
    cuda_options,
    half,
    open_provider,
    plain,
    tensorrt_options,
)
from .record import GpuOptions, SectionRecord
from .timing import bytes_per_frame, first_outputs, measure_rows, psnr_db

GPU_FACTS = "name,driver_version,memory.total,compute_cap,pcie.link.gen.max,pcie.link.width.max"


def machine_section(_: GpuOptions, record: SectionRecord) -> None:
    """Record the machine and the versions; the list of GPUs is empty where nvidia-smi is missing."""
    record.set(host=machine(), onnxruntime=onnxruntime.__version__, gpus=[])
    record.set(providers=onnxruntime.get_available_providers())
    record.set(cuda_of_onnxruntime=getattr(onnxruntime, "cuda_version", None) or None)
    wheels = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    shown = ("nvidia-", "tensorrt", "onnxruntime")  # includes CUDA's and cuDNN's wheels
    record.set(wheels={k: v for k, v in sorted(wheels.items()) if k.lower().startswith(shown)})
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={GPU_FACTS}", "--format=csv,noheader"]
        query = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if query.returncode:
            raise RuntimeError(f"nvidia-smi: {(query.stdout + query.stderr).strip()}")
        lines = [line.split(", ") for line in query.stdout.strip().splitlines()]
        record.set(gpus=[dict(zip(GPU_FACTS.split(","), line, strict=True)) for line in lines])


def plain_section(options: GpuOptions, record: SectionRecord) -> None:
    """Measure the bare network in each precision."""
    model, feeds = plain(options.width)
    _measure_precisions(options, record, feeds, lambda p: half(model) if p == FP16 else model)


def compiled_section(options: GpuOptions, record: SectionRecord) -> None:
    """Measure the service's graph in each precision, and compare its pixels with the plain network's."""
    bare, bare_feeds = plain(options.width)
    joined, feeds = compiled(bare)

    def model(precision: str) -> onnx.ModelProto:
        return compiled(half(bare))[0] if precision == FP16 else joined

    _measure_precisions(options, record, feeds, model)
    floats = first_outputs(_open(options, bare, FP32), bare_feeds)
    expected = (floats * np.float32(255)).astype(np.uint8).transpose(0, 2, 3, 1)
    actual = first_outputs(_open(options, joined, FP32), feeds)
    difference = np.abs(actual.astype(int) - expected)
    record.set(
        against_plain={
            "largest_difference": int(difference.max()),
            "share_different": float((difference > 0).mean()),
            "levels_std": float(expected.std()),
        }
    )


def tensorrt_section(options: GpuOptions, record: SectionRecord) -> None:
    """Measure the bare network through TensorRT in FP16; its engine is built anew and the time recorded."""
    if options.provider == "cpu":
        raise Unavailable("TensorRT needs a GPU")
    model, feeds = plain(options.width)
    largest = max(options.batches)
    with tempfile.TemporaryDirectory() as cache:
        begun = time.perf_counter()
        session = open_provider(model, TENSORRT, tensorrt_options(feeds, largest, Path(cache)))
        actual = first_outputs(session, {name: a[:largest] for name, a in feeds.items()})
        record.set(build_s=round(time.perf_counter() - begun, 1))
        expected = first_outputs(_open(options, model, FP32), feeds)
        record.set(psnr_db={TRT: psnr_db(actual, expected[: len(actual)])})
        _measure_batches(options, record, session, feeds, TRT)


def _open(
    options: GpuOptions, model: onnx.ModelProto, precision: str
) -> onnxruntime.InferenceSession:
    if options.provider == "cpu":
        if precision == TF32:
            raise Unavailable("TF32 needs a GPU")
        return open_provider(model, CPU, {})
    return open_provider(model, CUDA, cuda_options(precision, options.cudnn_search))


def _measure_precisions(
    options: GpuOptions,
    record: SectionRecord,
    feeds: Feeds,
    model: Callable[[str], onnx.ModelProto],
) -> None:
    reference, psnr = None, {}
    for precision in (FP32, TF32, FP16):
        try:
            session = _open(options, model(precision), precision)
            output = first_outputs(session, feeds)
        except Exception as e:
            record.add("skipped", {"precision": precision, "reason": f"{type(e).__name__}: {e}"})
            continue
        if precision == FP32:
            reference = output
            record.set(bytes_per_frame=bytes_per_frame(session))
        elif reference is not None:
            psnr[precision] = psnr_db(output, reference)
            record.set(psnr_db=psnr)
        _measure_batches(options, record, session, feeds, precision)
    if not record.report["figures"].get("rows"):
        raise RuntimeError(f"nothing ran: {record.report['figures']['skipped']}")


def _measure_batches(
    options: GpuOptions,
    record: SectionRecord,
    session: onnxruntime.InferenceSession,
    feeds: Feeds,
    precision: str,
) -> None:
    device = "cpu" if options.provider == "cpu" else "cuda"
    for batch in options.batches:
        if record.is_late:
            reason = f"time was up at batch {batch}"
            record.add("skipped", {"precision": precision, "reason": reason})
            return
        for row in measure_rows(session, feeds, precision, device, options.frames, [batch]):
            record.add("rows", row)
