"""Webhooks: signed calls of a caller's URL when a job has ended (standardwebhooks.com)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
from datetime import datetime, timezone

import aiohttp

from .addresses import AddressNotAllowed, guarded_session
from .job import Job

SECRET_PREFIX = "whsec_"
_TIMEOUT_S = 15.0
# Waits after calls that failed, much as the specification has them; then the webhook is given up.
DELAYS_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 3600.0)
_GONE = 410  # the receiver wants no more calls


def parse_secret(text: str) -> bytes:
    """Return the key of a secret `whsec_BASE64`.

    Raises:
        ValueError: it is none, or shorter than 24 bytes.
    """
    try:
        key = base64.b64decode(text.strip().removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as e:
        raise ValueError("a webhook secret is whsec_ and base64") from e
    if not 24 <= len(key) <= 64:
        raise ValueError("a webhook secret is whsec_ and 24 to 64 bytes in base64")
    return key


def signature(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`.

    Source: https://github.com/standard-webhooks/standard-webhooks, "Signature scheme".
    """
    signed = b".".join((message.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def body_of(job: Job) -> bytes:
    """Return the body of a webhook, the same at each call."""
    assert job.ended is not None
    ended = datetime.fromtimestamp(job.ended, timezone.utc).isoformat(timespec="milliseconds")
    data = {name: value for name, value in job.figures().items() if name != "webhook"}
    return json.dumps({"type": f"job.{job.status}", "timestamp": ended, "data": data}).encode()


async def call(job: Job, secret: str, networks: tuple[str, ...], timestamp: int) -> bool | None:
    """Call a job's webhook once.

    Args:
        job: an ended job with a webhook.
        secret: as for parse_secret.
        networks: as for guarded_session.
        timestamp: seconds since 1970, signed so that the receiver can refuse old calls.

    Returns:
        True if it was delivered, False if not, None if the receiver wants no further try.
    """
    assert job.webhook is not None
    body, message = body_of(job), f"{job.id}.{job.status}"
    headers = {
        "content-type": "application/json",
        "user-agent": "lipsync-triton",
        "webhook-id": message,  # the same at each call: receivers recognise repetitions by it
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(parse_secret(secret), message, timestamp, body),
    }
    try:
        async with (
            guarded_session(job.webhook, networks, _TIMEOUT_S) as session,
            session.post(
                job.webhook, data=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            if response.status == _GONE:
                return None
            return 200 <= response.status < 300
    except (aiohttp.ClientError, asyncio.TimeoutError, TimeoutError, OSError, AddressNotAllowed):
        return False
