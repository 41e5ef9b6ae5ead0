"""The health of a server, found by asking it for frames."""

from __future__ import annotations

import re

import numpy as np

from ._avatar import Avatar, is_avatar
from ._errors import ServerError, UnknownAvatar
from ._transports.request import Request, Tensor, Transport
from .protocol import SAMPLE_RATE

_PROBE_TIMEOUT_S = 30.0
_DEAD_STUB = re.compile(r"stub process '?(\w+?)(?:_\d+)*_\d+'? is not healthy", re.IGNORECASE)


async def server_health(transport: Transport) -> dict[str, bool]:
    """Return the readiness of each model of one server by name.

    Triton reports a Python model as ready after its process has died, so each avatar is asked for one frame
    of silence, which passes through all the models that it is made of.

    Raises:
        ServerError: the server does not respond at all.
    """
    names = sorted({entry["name"] for entry in await transport.index()})
    states = {name: await transport.model_ready(name) for name in names}
    for name in names:
        if not states[name]:
            continue
        try:
            config = await transport.config(name)
            if is_avatar(config):
                await _request_one_frame(transport, Avatar.from_config(config))
        except UnknownAvatar:
            states[name] = False
        except ServerError as e:
            states[name] = False
            dead = _DEAD_STUB.search(str(e))
            if dead is not None and dead[1] in states:
                states[dead[1]] = False
    return states


async def _request_one_frame(transport: Transport, avatar: Avatar) -> None:
    inputs: dict[str, Tensor] = {
        "AUDIO": np.zeros(SAMPLE_RATE // 10, np.float32),
        "FRAME_COUNT": np.array([1], np.int64),
    }
    await transport.infer(Request(avatar.name, inputs, "JPEG"), _PROBE_TIMEOUT_S)
