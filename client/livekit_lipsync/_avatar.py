"""The avatar of an agent, in the agent's own process."""

from __future__ import annotations

from typing import Any

from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.voice.avatar import AvatarRunner, AvatarSession, QueueAudioOutput

from ._video import LipSyncVideoGenerator


class LipSyncAvatarSession(AvatarSession[str]):
    """An avatar that the agent's own participant publishes.

    Args:
        generator: of the video; it is started and closed with the session.

    Example:
        avatar = LipSyncAvatarSession(LipSyncVideoGenerator("grpc://127.0.0.1:8001", "demo"))
        await avatar.start(session, ctx.room)
        await session.start(agent, room=ctx.room)
    """

    def __init__(self, generator: LipSyncVideoGenerator) -> None:
        super().__init__()
        self._generator = generator
        self._runner: AvatarRunner | None = None

    @property
    def avatar_identity(self) -> str:
        """The agent's own participant."""
        return str(self._room.local_participant.identity) if self._room else ""

    @property
    def provider(self) -> str:
        """The name in LiveKit's metrics."""
        return "lipsync-triton"

    async def start(self, agent_session: AgentSession[Any], room: rtc.Room) -> None:
        """Open the live session, and make the avatar the output of the agent's audio.

        Raises:
            LipSyncError: the server or the avatar is not there.
        """
        options = await self._generator.start()
        await super().start(agent_session, room)
        audio = QueueAudioOutput(sample_rate=options.audio_sample_rate, wait_playback_start=True)
        self._runner = AvatarRunner(
            room, audio_recv=audio, video_gen=self._generator, options=options
        )
        await self._runner.start()
        agent_session.output.audio = audio

    async def aclose(self) -> None:
        """Stop the avatar."""
        if self._runner is not None:
            await self._runner.aclose()
            self._runner = None
        await self._generator.aclose()
        room, self._room = self._room, None  # the agent's own participant must not be removed
        if room is not None:
            room.off("connection_state_changed", self._on_connection_state_changed)
        await super().aclose()
