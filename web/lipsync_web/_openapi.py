"""The OpenAPI document of the avatars and the jobs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from lipsync_client._output.formats import AUDIO_MODES, CONTAINERS

from ._job_request import AUDIO_FIELD, URL_FIELD
from ._settings import WebSettings
from .jobs.options import MEDIA_TYPES, PRESETS, JobOptions

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_ERRORS = {
    400: "A parameter, an option or the audio cannot be used.",
    401: "The token is missing or unknown.",
    403: "The service fetches no URLs, or calls no webhooks.",
    404: "There is no such job or avatar.",
    405: "The path has no such method.",
    409: "The video is not ready.",
    413: "The upload is too large, or the audio too long.",
    415: "The body has another content type.",
    416: "Nothing of the range is in the video.",
    422: "The URL cannot be fetched, or the Idempotency-Key was sent with another request.",
    429: "The caller has too many open jobs.",
    502: "The lip-sync server does not answer.",
    503: "The service or the lip-sync server is full, or its store does not answer.",
    504: "The lip-sync server did not answer in time.",
}


def document(settings: WebSettings) -> Schema:
    """Return the document of a service with these settings."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lipsync-triton",
            "version": version("lipsync-triton"),
            "description": (
                f"Audio in, a talking avatar out. At most {settings.max_upload_bytes >> 20} MiB and"
                f" {settings.max_audio_s:g} s of audio; a job is kept for"
                f" {settings.jobs.retention_s / 3600:g} h after its end. Live sessions over WebRTC are in the"
                " project's docs/web.md."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}] if settings.token or settings.callers_file else [],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Problem": _problem(), "Avatar": _avatar(), "Job": _job(), "Options": _options(),
                "NewJob": _new_job(),
            },
            "parameters": {
                "id": {"name": "id", "in": "path", "required": True, "schema": _TEXT},
                "avatar": {"name": "avatar", "in": "path", "required": True, "schema": _TEXT},
            },
        },
    }  # fmt: skip


def _paths() -> Schema:
    job, avatar = _parameter("id"), _parameter("avatar")
    server = (502, 503, 504)
    return {
        "/v1/avatars": {
            "get": _operation(
                "listAvatars", "The avatars that are ready",
                {200: _body("The avatars.", {"type": "array", "items": _ref("Avatar")})},
                server,
            )
        },
        "/v1/avatars/{avatar}/thumbnail.jpg": {
            "get": _operation(
                "getThumbnail", "One frame of an avatar",
                {200: _binary("The frame.", "image/jpeg")}, (400, 404, *server), [avatar],
            )
        },
        "/v1/jobs": {"post": _add_job()},
        "/v1/jobs/{id}": {
            "get": _operation(
                "getJob", "The state of a job", {200: _body("The job.", _ref("Job"))}, (404,), [job]
            ),
            "delete": _operation(
                "deleteJob", "Cancel a job, or delete its video",
                {204: {"description": "The job is gone."}}, (404,), [job],
            ),
        },
        "/v1/jobs/{id}/events": {
            "get": _operation(
                "watchJob", "The state of a job whenever it changes, as server-sent events",
                {200: _body(
                    "Events named as the job's status, with the job as their data. The stream ends with the"
                    " job, or with the event `deleted`.", _event(), "text/event-stream",
                )}, (404,), [job],
            )
        },
        "/v1/jobs/{id}/video": {
            "get": _operation(
                "getVideo", "The video of a job that is done",
                {200: _binary("The video.", *_video_types()),
                 206: _binary("A part of it.", *_video_types())},
                (404, 409, 416), [job, _header("Range", "One range of bytes.")],
            )
        },
    }  # fmt: skip


def _add_job() -> Schema:
    options = [
        {
            "name": name,
            "in": "query",
            "schema": schema,
            "description": schema.get("description", ""),
        }
        for name, schema in _options()["properties"].items()
    ]
    parameters = [
        {"name": "avatar", "in": "query", "schema": _TEXT, "description": "Name of the avatar."},
        {"name": "webhook", "in": "query", "schema": _url(), "description": "Called at the end."},
        *options,
        _header("Idempotency-Key", "The same key and request again is the same job.", 255),
    ]
    form = {
        "type": "object",
        "required": [AUDIO_FIELD],
        "properties": {
            AUDIO_FIELD: {"type": "string", "format": "binary", "description": "The file."},
            "avatar": _TEXT,
            "webhook": _url(),
            **_options()["properties"],
        },
    }
    binary: Schema = {"schema": {"type": "string", "format": "binary"}}
    made = _body("The job.", _ref("Job"))
    made["headers"] = {"Location": {"description": "The job's path.", "schema": _TEXT}}
    operation = _operation(
        "addJob", "Render audio to a video", {202: made},
        (400, 403, 404, 413, 415, 422, 429, 502, 503, 504), parameters,
    )  # fmt: skip
    operation["description"] = (
        "The audio is the body itself, with the options in the query; or a file of a form; or, where the"
        " service allows it, a URL in JSON."
    )
    operation["requestBody"] = {
        "required": True,
        "content": {
            "application/octet-stream": binary,
            "audio/*": binary,
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": _ref("NewJob")},
        },
    }
    return operation


def _options() -> Schema:
    return {
        "type": "object",
        "properties": {
            "format": {
                "enum": list(CONTAINERS), "default": JobOptions.format, "description": "The container.",
            },
            "crf": _integer(0, 63, "Quality, lower is better: 0 to 51 for H.264, 0 to 63 for WebM."),
            "preset": {"enum": list(PRESETS), "description": "x264's preset."},
            "keyint": _integer(1, 1000, "Most frames from one keyframe to the next."),
            "audio_mode": {
                "enum": list(AUDIO_MODES), "default": JobOptions.audio_mode,
                "description": "Keep the audio's own packets, or encode it.",
            },
            "track": _integer(1, 1000, "Number of the audio track."),
            "strict": {
                "type": "boolean", "default": JobOptions.strict,
                "description": "Refuse audio of which a part cannot be decoded.",
            },
            "fps": {
                "type": "number", "minimum": 1, "maximum": 25, "description": "Of a GIF or WebP.",
            },
            "width": _integer(16, 7680, "Of a GIF or WebP, in pixels."),
        },
    }  # fmt: skip


def _new_job() -> Schema:
    return {
        "type": "object",
        "required": [URL_FIELD],
        "additionalProperties": False,
        "properties": {
            URL_FIELD: _url(),
            "avatar": _TEXT,
            "webhook": _url(),
            **_options()["properties"],
        },
    }


def _job() -> Schema:
    number = {"type": ["integer", "null"]}
    real = {"type": ["number", "null"]}
    nullable = {"type": ["string", "null"]}
    properties = {
        "id": _TEXT, "status": {"enum": ["waiting", "running", "done", "failed"]}, "avatar": _TEXT,
        "options": _ref("Options"),
        "progress": {**real, "description": "0 to 1; null while it is unknown."},
        "frames": {"type": "integer"}, "expected_frames": number, "fps": real,
        "eta_s": {**real, "description": "Seconds that are left."},
        "attempt": {"type": "integer", "description": "Workers that have begun the job."},
        "error": {**nullable, "description": "Why it failed, or why it is tried again."},
        "warnings": {"type": "array", "items": _TEXT},
        "bytes": {**number, "description": "Size of the video."},
        "created": _TIME, "started": _TIME, "ended": _TIME,
        "expires": {**_TIME, "description": "When the job and its video are deleted."},
        "video": {**nullable, "description": "The path of the video."},
        "webhook": {"enum": ["pending", "delivered", "failed", None]},
    }  # fmt: skip
    return {"type": "object", "required": list(properties), "properties": properties}


def _avatar() -> Schema:
    properties = {
        "name": _TEXT,
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "frames": {"type": "integer", "description": "Length of its loop."},
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _event() -> Schema:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": _ref("Job")}
    return {"type": "object", "properties": {"event": _TEXT, "data": data}}


def _problem() -> Schema:
    properties = {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT}
    return {"type": "object", "required": list(properties), "properties": properties}


def _operation(
    name: str,
    summary: str,
    responses: dict[int, Schema],
    errors: tuple[int, ...],
    parameters: list[Schema] | None = None,
) -> Schema:
    problem = {"application/problem+json": {"schema": _ref("Problem")}}
    failures = {
        code: {"description": _ERRORS[code], "content": problem} for code in (*errors, 401, 405)
    }
    found = {**responses, **failures}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {str(code): found[code] for code in sorted(found)},
    }


def _body(text: str, schema: Schema, media_type: str = "application/json") -> Schema:
    return {"description": text, "content": {media_type: {"schema": schema}}}


def _binary(text: str, *media_types: str) -> Schema:
    return {"description": text, "content": {name: {} for name in media_types}}


def _video_types() -> list[str]:
    return sorted(set(MEDIA_TYPES.values()))


def _header(name: str, text: str, length: int = 100) -> Schema:
    schema = {**_TEXT, "minLength": 1, "maxLength": length}
    return {"name": name, "in": "header", "schema": schema, "description": text}


def _integer(low: int, high: int, text: str) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high, "description": text}


def _url() -> Schema:
    return {"type": "string", "format": "uri", "description": "http(s)://HOST/..."}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameter(name: str) -> Schema:
    return {"$ref": f"#/components/parameters/{name}"}
