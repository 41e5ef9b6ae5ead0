"""Responses with a part of a file that is in an object store (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ._problems import Problem

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def ranged(
    request: Request,
    size: int,
    media_type: str,
    name: str,
    etag: str,
    read: Callable[[int, int], Iterator[bytes]],
) -> Response:
    """Return the whole file, or the part that the request asks for.

    Several ranges, or a range in other units, are answered with the whole file, as the standard allows.

    Args:
        request: with or without the headers Range and If-Range.
        size: of the file in bytes.
        media_type, name, etag: of the file.
        read: returns the bytes from one position to before another.

    Raises:
        Problem: nothing of the range is in the file.
    """
    headers = {
        "accept-ranges": "bytes",
        "etag": etag,
        "content-disposition": f'attachment; filename="{name}"',
    }
    found = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if found is None or request.headers.get("if-range", etag) != etag or found.groups() == ("", ""):
        headers["content-length"] = str(size)
        return StreamingResponse(read(0, size), headers=headers, media_type=media_type)
    first, last = found.groups()
    if first:
        begin, end = int(first), min(size, int(last) + 1) if last else size
    else:
        begin, end = max(0, size - int(last)), size
    if begin >= end:
        raise Problem(
            416,
            f"The video has {size} bytes; the range is outside.",
            {"content-range": f"bytes */{size}"},
        )
    headers |= {
        "content-range": f"bytes {begin}-{end - 1}/{size}",
        "content-length": str(end - begin),
    }
    return StreamingResponse(read(begin, end), 206, headers, media_type=media_type)
