"""Pipecat pipelines for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipecat.frames.frames import ErrorFrame, Frame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

AnyFrame = TypeVar("AnyFrame", bound=Frame)


class Collector(FrameProcessor):
    """The end of a pipeline, in the transport's place.

    Attributes:
        frames: all that came downstream.
        errors: all that were pushed upstream, with the processors before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Keep a frame, and pass it on."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.DOWNSTREAM:
            self.frames.append(frame)
        await self.push_frame(frame, direction)

    def all(self, kind: type[AnyFrame]) -> list[AnyFrame]:
        """Return the frames of a kind."""
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def until(self, kind: type[Frame], count: int) -> None:
        """Wait until so many frames of a kind have come."""
        deadline = time.monotonic() + 120
        while len(self.all(kind)) < count:
            assert time.monotonic() < deadline, f"{len(self.all(kind))} of {count} {kind.__name__}"
            await asyncio.sleep(0.01)


async def run_pipeline(
    processors: list[FrameProcessor],
    act: Callable[[PipelineWorker], Awaitable[None]],
    rate: int,
) -> list[ErrorFrame]:
    """Run processors while `act` queues frames, until the pipeline has ended; return its errors."""
    worker = PipelineWorker(
        Pipeline(processors),
        params=PipelineParams(audio_out_sample_rate=rate, enable_metrics=True),
        enable_rtvi=False,
        idle_timeout_secs=None,
    )
    started = asyncio.Event()
    errors: list[ErrorFrame] = []

    async def on_started(_: PipelineWorker, __: Frame) -> None:
        started.set()

    async def on_error(_: PipelineWorker, error: ErrorFrame) -> None:
        errors.append(error)

    worker.add_event_handler("on_pipeline_started", on_started)
    worker.add_event_handler("on_pipeline_error", on_error)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        await started.wait()
        await act(worker)
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return errors
