"""The request for a new job: raw audio, a form with a file, or JSON with a URL."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from ._problems import Problem
from ._settings import WebSettings
from ._uploads import read_bounded, save, too_large
from .jobs.addresses import AddressNotAllowed, check_url
from .jobs.fetch import FetchFailed, fetch
from .jobs.options import JobOptions, parse_options

AUDIO_FIELD = "audio"  # of a form
URL_FIELD = "audio_url"  # of a JSON body
_FORM_BYTES = 64 << 10  # of a form beside its file, and of a JSON body
_MOST_FIELDS = 32
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# The last one is what `curl --data-binary` says of any file.
_RAW = ("", "application/octet-stream", "application/ogg", "application/x-www-form-urlencoded")
_NAMES = ("avatar", "webhook", URL_FIELD)


@dataclass(frozen=True)
class JobRequest:
    """A new job that a caller asks for.

    Attributes:
        avatar, options, webhook: what was asked for.
        audio: the upload; it must be moved or deleted.
        fingerprint: digest of all of it.
        key: the Idempotency-Key.
    """

    avatar: str
    options: JobOptions
    webhook: str | None
    audio: Path
    fingerprint: str
    key: str | None


@asynccontextmanager
async def read_request(
    request: Request, folder: Path, settings: WebSettings
) -> AsyncIterator[JobRequest]:
    """Yield the job that a request asks for; its upload is deleted afterwards if it is still there.

    Raises:
        Problem: the request is of another form, or too large.
        InputError: an option cannot be used.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise Problem(400, "Idempotency-Key must be 1 to 255 visible ASCII characters.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    values: dict[str, Any] = dict(request.query_params)
    if len(values) != len(request.query_params.multi_items()):
        raise Problem(400, "A parameter of the query is given twice.")
    max_bytes = settings.max_upload_bytes
    if kind == "multipart/form-data":
        fields, path, digest = await _form(request, folder, max_bytes)
        values = _merged(values, fields)
    elif kind == "application/json":
        values = _merged(values, await _json(request))
        path, digest = await _fetched(values, folder, settings)
    elif kind in _RAW or kind.startswith(("audio/", "video/")):
        path, digest = await save(request.stream(), folder, max_bytes)
    else:
        raise Problem(
            415,
            "The body must be an audio or video file (audio/*, video/* or application/octet-stream),"
            " a form (multipart/form-data) with the file in its field 'audio', or JSON with"
            f" {URL_FIELD!r}; got {kind}.",
        )
    try:
        avatar, webhook, options = _parse(values)
        asked = [avatar, webhook, options.to_json(), digest]
        fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        yield JobRequest(avatar, options, webhook, path, fingerprint, key)
    finally:
        path.unlink(missing_ok=True)


def _parse(values: Mapping[str, Any]) -> tuple[str, str | None, JobOptions]:
    avatar, webhook = values.get("avatar"), values.get("webhook")
    if not isinstance(avatar, str) or not avatar:
        raise Problem(400, "Name the avatar: POST /v1/jobs?avatar=NAME, or a field 'avatar'.")
    if webhook is not None:
        try:
            check_url(str(webhook))
        except AddressNotAllowed as e:
            raise Problem(400, f"The webhook's URL cannot be used: {e}.") from e
    options = {name: value for name, value in values.items() if name not in _NAMES}
    return avatar, webhook, parse_options(options)


def _merged(query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    twice = sorted(set(query) & set(body))
    if twice:
        raise Problem(400, f"{twice[0]!r} is in the query and in the body: give it once.")
    return query | body


async def _form(request: Request, folder: Path, max_bytes: int) -> tuple[dict[str, Any], Path, str]:
    """Return the fields of a form, and its file with the digest of the contents."""
    bounded = Request(request.scope, _bounded(request, max_bytes + _FORM_BYTES, max_bytes))
    async with bounded.form(
        max_files=1, max_fields=_MOST_FIELDS, max_part_size=_FORM_BYTES
    ) as form:
        items = form.multi_items()
        fields = {name: value for name, value in items if isinstance(value, str)}
        uploads = {name: value for name, value in items if isinstance(value, UploadFile)}
        if len(fields) + len(uploads) != len(items):
            raise Problem(400, "A field of the form is given twice.")
        if set(uploads) != {AUDIO_FIELD}:
            raise Problem(400, f"The form must have one file, in its field {AUDIO_FIELD!r}.")
        path, digest = await save(_blocks(uploads[AUDIO_FIELD]), folder, max_bytes)
    return fields, path, digest


async def _blocks(upload: UploadFile) -> AsyncIterator[bytes]:
    while block := await upload.read(1 << 20):
        yield block


def _bounded(request: Request, most: int, max_bytes: int) -> Any:
    """Return a `receive` that refuses more than `most` bytes: Starlette bounds no files of forms."""
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        received += len(message.get("body", b""))
        if received > most:
            raise too_large(max_bytes)
        return message

    return receive


async def _json(request: Request) -> dict[str, Any]:
    body = await read_bounded(request, _FORM_BYTES, "A JSON body")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise Problem(400, f"The body is not JSON: {e}.") from e
    if not isinstance(values, dict):
        raise Problem(400, "The JSON body must be an object.")
    return values


async def _fetched(
    values: Mapping[str, Any], folder: Path, settings: WebSettings
) -> tuple[Path, str]:
    url = values.get(URL_FIELD)
    if not isinstance(url, str):
        raise Problem(400, f"The JSON body must name the audio: {URL_FIELD!r}.")
    if not settings.jobs.url_hosts:
        raise Problem(403, "This service fetches no URLs: send the audio file itself.")
    try:
        async with fetch(url, settings.jobs.url_hosts, settings.jobs.networks) as blocks:
            return await save(blocks, folder, settings.max_upload_bytes)
    except FetchFailed as e:
        raise Problem(422, f"The audio cannot be fetched: {e}") from e
