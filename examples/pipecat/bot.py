"""A bot with a face, on this machine alone: Pipecat, espeak-ng and the lip-sync server.

python examples/pipecat/bot.py [--text FILE]

It repeats what you say in the microphone, or reads a text, and says what you type.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import uvicorn
from espeak import EspeakTTSService
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport
from pipecat.workers.runner import WorkerRunner
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from lipsync_client import Avatar, LipSyncClient, LipSyncError
from pipecat_lipsync import LipSyncVideoService

PAGE = Path(__file__).parent / "page"
INPUT_RATE = 16_000  # Hz, as the voice activity detector wants it
PAUSE_S = 0.8  # a longer one is the end of what the user says
BEFORE = 25  # frames of 20 ms that are kept from before the detector is sure


@dataclass(frozen=True)
class Settings:
    """Attributes: url, avatar: of the lip-sync server; voice: espeak-ng's; text: to be read, or None."""

    url: str
    avatar: Avatar
    voice: str
    text: str | None


class Echo(FrameProcessor):
    """Says again what the user has said; whoever speaks interrupts the bot. An LLM would be in its place."""

    def __init__(self) -> None:
        super().__init__()
        self._before: deque[bytes] = deque(maxlen=BEFORE)
        self._said: list[bytes] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take the user's audio, and pass everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            (self._before if self._said is None else self._said).append(frame.audio)
            return
        if isinstance(frame, VADUserStartedSpeakingFrame):
            await self.broadcast_interruption()
            self._said = list(self._before)
        await self.push_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame) and self._said is not None:
            audio, self._said = b"".join(self._said), None
            await self.push_frame(TTSStartedFrame())
            await self.push_frame(TTSAudioRawFrame(audio, INPUT_RATE, 1))
            await self.push_frame(TTSStoppedFrame())


async def run_bot(connection: SmallWebRTCConnection, settings: Settings) -> None:
    """Talk with one peer until it leaves."""
    transport = SmallWebRTCTransport(
        connection,
        TransportParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            audio_out_end_silence_secs=0,
            video_out_enabled=True,
            video_out_width=settings.avatar.width,
            video_out_height=settings.avatar.height,
        ),
    )
    detector = SileroVADAnalyzer(params=VADParams(stop_secs=PAUSE_S))
    listening = [VADProcessor(vad_analyzer=detector), Echo()]
    pipeline = Pipeline(
        [
            transport.input(),
            *([] if settings.text else listening),
            EspeakTTSService(settings.voice),
            LipSyncVideoService(url=settings.url, avatar=settings.avatar.name),
            transport.output(),
        ]
    )
    params = PipelineParams(audio_in_sample_rate=INPUT_RATE, enable_metrics=True)
    worker = PipelineWorker(pipeline, params=params, enable_rtvi=False, idle_timeout_secs=None)

    @transport.event_handler("on_client_connected")
    async def on_connected(_: object, __: object) -> None:
        for paragraph in (settings.text or "").split("\n\n"):
            if paragraph.strip():
                await worker.queue_frame(TTSSpeakFrame(" ".join(paragraph.split())))

    @transport.event_handler("on_app_message")
    async def on_message(_: object, message: Any, __: object) -> None:
        if message.get("type") == "say":
            await worker.queue_frame(TTSSpeakFrame(str(message.get("text"))))
        elif message.get("type") == "interrupt":
            await worker.queue_frame(InterruptionFrame())

    @transport.event_handler("on_client_disconnected")
    async def on_disconnected(_: object, __: object) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def create_app(settings: Settings) -> Starlette:
    """Return the page, and `POST /offer` for the SDP of a peer."""
    bots: set[asyncio.Task[None]] = set()

    async def page(_: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def offer(request: Request) -> Response:
        connection = SmallWebRTCConnection()
        try:
            body = await request.json()
            await connection.initialize(sdp=body["sdp"], type=body["type"])
        except Exception as e:  # aiortc reports malformed SDP by whatever its parser stumbles over
            return PlainTextResponse(f"The body must be an offer as JSON: {e!r}\n", 400)
        bot = asyncio.create_task(run_bot(connection, settings))
        bots.add(bot)
        bot.add_done_callback(bots.discard)
        return JSONResponse(connection.get_answer())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        for bot in bots:
            bot.cancel()
        await asyncio.gather(*bots, return_exceptions=True)

    routes = [
        Route("/", page),
        Route("/offer", offer, methods=["POST"]),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", default="grpc://127.0.0.1:8001", show_default=True, help="Lip-sync server.")
@click.option("--avatar", default="demo", show_default=True, help="Name of the avatar.")
@click.option("--text", type=click.File(), help="Read this file aloud, a paragraph at a time.")
@click.option("--voice", default="en-us+f2", show_default=True, help="A voice of espeak-ng.")
@click.option("--port", default=8090, show_default=True, help="Port of the page.")
def main(url: str, avatar: str, text: Any, voice: str, port: int) -> None:
    """Serve a page on which an avatar repeats what you say, or reads a text."""
    try:
        with LipSyncClient(url) as client:
            described = client.avatar(avatar)
    except LipSyncError as e:
        raise click.ClickException(str(e)) from e
    settings = Settings(url, described, voice, text.read() if text else None)
    click.echo(f"Open http://localhost:{port}/")
    uvicorn.run(create_app(settings), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
