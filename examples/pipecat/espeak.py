"""A speech synthesiser for Pipecat that needs no network: espeak-ng."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np
from pipecat.frames.frames import Frame, TTSAudioRawFrame
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService

sys.path.append(str(Path(__file__).parents[1] / "demo/training"))
from speech import SAMPLE_RATE, speak

_one_at_a_time = threading.Lock()  # the library has one state for the whole process


class EspeakTTSService(TTSService):
    """espeak-ng as a Pipecat service.

    Args:
        voice: espeak-ng's name of it, e.g. "en-us+f2".
    """

    def __init__(self, voice: str) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model=None, voice=voice, language=None),
        )
        self._voice = voice

    def can_generate_metrics(self) -> bool:
        """Return True."""
        return True

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Yield the speech of a sentence."""
        await self.start_tts_usage_metrics(text)
        audio = await asyncio.to_thread(self._speak, text)
        yield TTSAudioRawFrame(audio, SAMPLE_RATE, 1, context_id=context_id)

    def _speak(self, text: str) -> bytes:
        with _one_at_a_time:
            samples = speak(text, self._voice).samples
        return np.rint(samples.clip(-1, 1) * 32767).astype(np.int16).tobytes()
