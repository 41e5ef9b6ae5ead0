"""The example bot of Pipecat's at a real SmallWebRTC peer."""

from __future__ import annotations

import json

import httpx
from aiortc.mediastreams import AudioStreamTrack

from .mouth import Mouth
from .peer import Peer
from .programs import example_bot
from .whep import BURST_S, conversation

_SHORT = "Good morning, how are you today?"
_LONG = (
    "Here is a longer sentence, which nobody is to hear until its end, because it takes many seconds to say,"
    " and the bot is interrupted in the middle of it, so that we see how soon it falls silent."
)


async def measure_bot(url: str, mouth: Mouth, replies: int) -> str:
    """Return the table of the peer; the synthesiser's time is part of a burst's."""
    with example_bot(url) as (address, _):
        async with httpx.AsyncClient(base_url=address, timeout=120) as http:
            peer = Peer(mouth, by_arrival=True)
            await peer.talk_to_bot(http, AudioStreamTrack())  # a silent microphone

            async def say(seconds: float) -> None:
                text = _SHORT if seconds <= BURST_S else _LONG
                peer.channel.send(json.dumps({"type": "say", "text": text}))

            async def interrupt() -> None:
                peer.channel.send(json.dumps({"type": "interrupt"}))

            try:
                return await conversation("Pipecat bot", peer, url, say, interrupt, replies)
            finally:
                await peer.close()
