"""The routes of jobs."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ._job_request import read_request
from ._problems import Problem
from ._ranges import ranged
from ._service import Service, service_of
from ._uploads import check
from .jobs.job import Job, now
from .jobs.options import MEDIA_TYPES
from .jobs.store import TooManyJobs, update

_log = logging.getLogger("lipsync_web")
_POLL_S = 0.25  # between looks at a job that somebody watches
_KEEP_ALIVE_S = 15.0  # between comments on a silent stream of events


def job_routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/v1/jobs", _add, methods=["POST"]),
        Route("/v1/jobs/{id}", _job, methods=["GET"]),
        Route("/v1/jobs/{id}", _delete, methods=["DELETE"]),
        Route("/v1/jobs/{id}/events", _events, methods=["GET"]),
        Route("/v1/jobs/{id}/video", _video, methods=["GET"]),
    ]


async def _add(request: Request) -> Response:
    service = service_of(request)
    settings = service.settings
    async with read_request(request, service.folder, settings) as asked:
        if asked.webhook is not None and settings.jobs.webhook_secret is None:
            raise Problem(403, "This service calls no webhooks: it has no secret to sign them.")
        await service.client.avatar(asked.avatar)
        options = asked.options
        await check(asked.audio, settings.max_audio_s, options.track, options.strict)
        created = now()
        job = Job(
            id=secrets.token_urlsafe(16), caller=request.state.caller, avatar=asked.avatar,
            options=options, fingerprint=asked.fingerprint, created=created,
            wake=created + settings.jobs.check_s, key=asked.key, webhook=asked.webhook,
        )  # fmt: skip
        # The upload is in its place before the record, so that no worker finds a job without it.
        await to_thread.run_sync(service.files.put_audio, job.id, asked.audio)
        kept = await to_thread.run_sync(_keep, service, job)
    if kept.id != job.id and kept.fingerprint != job.fingerprint:
        raise Problem(422, "This Idempotency-Key was sent before, with another request.")
    return JSONResponse(kept.figures(), 202, {"location": f"/v1/jobs/{kept.id}"})


def _keep(service: Service, job: Job) -> Job:
    """Keep a new job, queue it and return it; or the job of the same key.

    Raises:
        Problem: too many jobs are open.
    """
    jobs = service.settings.jobs
    try:
        kept = service.store.add(job, jobs.max_jobs, jobs.max_caller_jobs)
    except TooManyJobs as e:
        service.files.remove(job.id)
        if e.caller:
            text = f"You have {jobs.max_caller_jobs} jobs that wait or run, the limit here."
            raise Problem(429, f"{text} Try again later.", {"retry-after": "30"}) from e
        raise Problem(503, "Too many jobs wait. Try again later.", {"retry-after": "30"}) from e
    if kept.id != job.id:
        service.files.remove(job.id)
        return kept
    try:
        service.queue.add(job.id)
    except Exception:  # of SQLite or Redis
        _log.exception("job %s: not queued; a sweep will", job.id)
    return kept


async def _find(request: Request) -> Job:
    """Return the job of a request.

    Raises:
        Problem: the caller has none of this id.
    """
    job = await to_thread.run_sync(service_of(request).store.get, request.path_params["id"])
    caller = request.state.caller
    known = job is not None and (service_of(request).callers.open or job.caller == caller)
    if job is None or not known or job.status == "deleted":
        raise Problem(404, "There is no such job; it may have expired.")
    return job


async def _job(request: Request) -> Response:
    return JSONResponse((await _find(request)).figures(), headers={"cache-control": "no-store"})


async def _delete(request: Request) -> Response:
    service, job = service_of(request), await _find(request)

    def delete() -> None:
        deleted = update(service.store, job.id, lambda job: replace(job, status="deleted"))
        if deleted is not None:
            service.sweep.remove(deleted)

    await to_thread.run_sync(delete)
    return Response(status_code=204)


async def _events(request: Request) -> Response:
    job = await _find(request)
    return StreamingResponse(
        _event_stream(service_of(request), job),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _event_stream(service: Service, job: Job) -> AsyncIterator[str]:
    """Yield an event whenever the job has changed, until it has ended."""
    yield "retry: 2000\n\n"
    shown, silent_s = None, 0.0
    while True:
        figures = job.figures()
        if figures != shown:
            yield f"event: {job.status}\ndata: {json.dumps(figures)}\n\n"
            shown, silent_s = figures, 0.0
        elif silent_s >= _KEEP_ALIVE_S:
            yield ": waiting\n\n"
            silent_s = 0.0
        if not job.open and job.webhook_status != "pending":
            return
        await asyncio.sleep(_POLL_S)
        silent_s += _POLL_S
        found = await to_thread.run_sync(service.store.get, job.id)
        if found is None or found.status == "deleted":
            yield f"event: deleted\ndata: {json.dumps({'id': job.id})}\n\n"
            return
        job = found


async def _video(request: Request) -> Response:
    service, job = service_of(request), await _find(request)
    if job.status != "done":
        raise Problem(409, f"The video is not ready: the job is {job.status}.")
    suffix, media_type = job.options.suffix, MEDIA_TYPES[job.options.format]
    name = f"{job.avatar}{suffix}"
    return ranged(
        request, job.bytes or 0, media_type, name, f'"{job.id}"',
        lambda begin, end: service.files.read_video(job.id, suffix, begin, end),
    )  # fmt: skip
