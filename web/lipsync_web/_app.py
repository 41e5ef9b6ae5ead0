"""The routes: a page, WHEP and WHIP, live sessions, jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest, start_http_server
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lipsync_client import LipSyncError

from . import _problems as problems
from ._job_routes import job_routes
from ._metrics import registry
from ._openapi import document as openapi
from ._peer import MAX_OFFER_BYTES
from ._problems import Problem
from ._service import Service, service_of
from ._settings import WebSettings
from ._tracks import AUDIO_RATE
from ._uploads import decode, in_blocks, read_bounded, save_body
from .jobs.files import FilesUnreachable
from .jobs.store import StoreUnreachable

_STATIC = Path(__file__).parent / "static"
_SDP = "application/sdp"
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self), camera=()",
}


def create_app(settings: WebSettings | None = None) -> Starlette:
    """Return the ASGI application.

    Args:
        settings: the lip-sync server at grpc://127.0.0.1:8001 and no token if not given.
    """
    settings = settings or WebSettings()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.service = service = Service(settings)
        app.state.registry = registry(service.store, lambda: service.sessions)
        listener = None
        if settings.metrics_port is not None:
            listener, _ = start_http_server(
                settings.metrics_port, "0.0.0.0", registry=app.state.registry
            )
        try:
            await service.start()
            yield
        finally:
            if listener is not None:
                await to_thread.run_sync(listener.shutdown)
                listener.server_close()
            await service.close()

    return Starlette(
        routes=[
            Route("/", _page),
            Route("/healthz", _healthz),
            Route("/v1/config", _config),
            Route("/v1/avatars", _avatars),
            Route("/v1/avatars/{avatar}/thumbnail.jpg", _thumbnail),
            Route("/v1/avatars/{avatar}/whep", _whep, methods=["POST"]),
            Route("/v1/sessions/{id}", _session, methods=["GET", "PATCH", "DELETE"]),
            Route("/v1/sessions/{id}/whep", _watch, methods=["POST"]),
            Route("/v1/sessions/{id}/whip", _whip, methods=["POST", "DELETE"]),
            Route("/v1/sessions/{id}/audio", _audio, methods=["POST"]),
            Route("/v1/sessions/{id}/interrupt", _interrupt, methods=["POST"]),
            *job_routes(),
            Route("/api", _api_page),
            Route("/openapi.json", _openapi),
            Route("/metrics", _metrics),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(_Guard)],
        exception_handlers={
            HTTPException: problems.on_http_exception,
            500: problems.on_failure,
            LipSyncError: problems.on_client_error,
            StoreUnreachable: problems.on_unreachable,
            FilesUnreachable: problems.on_unreachable,
        },
        lifespan=lifespan,
    )


class _Guard:
    """ASGI middleware that adds the security headers, and asks for the token where that is needed.

    The page itself is open: it asks for the token.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._app
        if scope["path"].startswith("/v1/") or scope["path"] == "/metrics":
            callers = scope["app"].state.service.callers
            address = (scope.get("client") or ("unknown", 0))[0]
            caller = callers.name(Headers(scope=scope).get("authorization", ""), address)
            scope.setdefault("state", {})["caller"] = caller
            if caller is None:
                app = problems.document(
                    401,
                    "Send the token: Authorization: Bearer TOKEN.",
                    {"www-authenticate": "Bearer"},
                )
        await app(scope, receive, send_with_headers)


async def _offer(request: Request) -> str:
    """Return the SDP of a request.

    Raises:
        Problem: another content type, or a body that is too large or no text.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (_SDP, "application/trickle-ice-sdpfrag"):
        raise Problem(415, f"The content type must be {_SDP}, got {kind or 'none'}.")
    body = await read_bounded(request, MAX_OFFER_BYTES, "An SDP body")
    try:
        return body.decode()
    except UnicodeDecodeError as e:
        raise Problem(400, "The SDP body must be UTF-8 text.") from e


async def _page(_: Request) -> Response:
    return FileResponse(_STATIC / "index.html")


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _config(request: Request) -> Response:
    servers = [
        {"urls": s.url}
        | ({"username": s.username, "credential": s.credential or ""} if s.username else {})
        for s in service_of(request).settings.ice_servers
    ]
    return JSONResponse({"ice_servers": servers})


async def _avatars(request: Request) -> Response:
    avatars = await service_of(request).client.avatars()
    return JSONResponse(
        [
            {"name": a.name, "width": a.width, "height": a.height, "frames": a.frames}
            for a in avatars
        ]
    )


async def _thumbnail(request: Request) -> Response:
    data = await service_of(request).thumbnail(request.path_params["avatar"])
    return Response(data, media_type="image/jpeg", headers={"cache-control": "max-age=300"})


async def _whep(request: Request) -> Response:
    service = service_of(request)
    offer = await _offer(request)
    session, answer = await service.open_session(request.path_params["avatar"], offer)
    return _answer(service.settings, f"/v1/sessions/{session.id}", answer)


async def _watch(request: Request) -> Response:
    service, offer = service_of(request), await _offer(request)
    session = service.session(request.path_params["id"])
    return _answer(service.settings, f"/v1/sessions/{session.id}", await session.watch(offer))


async def _whip(request: Request) -> Response:
    service = service_of(request)
    session = service.session(request.path_params["id"])
    if request.method == "DELETE":
        await session.close_microphones()
        return Response(status_code=200)
    answer = await session.listen(await _offer(request))
    return _answer(service.settings, f"/v1/sessions/{session.id}/whip", answer)


def _answer(settings: WebSettings, location: str, sdp: str) -> Response:
    links = [
        f'<{s.url}>; rel="ice-server"'
        + (f'; username="{s.username}"; credential="{s.credential}"' if s.username else "")
        for s in settings.ice_servers
    ]
    headers = {"location": location} | ({"link": ", ".join(links)} if links else {})
    return Response(sdp, 201, headers, media_type=_SDP)


async def _session(request: Request) -> Response:
    service, key = service_of(request), request.path_params["id"]
    if request.method == "DELETE":
        await service.end_session(key)
        return Response(status_code=200)
    if request.method == "PATCH":
        session = service.session(key)
        await session.add_candidates(await _offer(request))
        return Response(status_code=204)
    return JSONResponse(service.session(key, may_have_ended=True).figures())


async def _audio(request: Request) -> Response:
    service = service_of(request)
    session, settings = service.session(request.path_params["id"]), service.settings
    path = await save_body(request, service.folder, settings.max_upload_bytes)
    try:
        samples = await decode(path, settings.max_audio_s)
    finally:
        path.unlink(missing_ok=True)
    session.say(in_blocks(samples))
    return JSONResponse({"seconds": round(len(samples) / AUDIO_RATE, 2)}, 202)


async def _interrupt(request: Request) -> Response:
    service_of(request).session(request.path_params["id"]).interrupt()
    return Response(status_code=204)


async def _api_page(_: Request) -> Response:
    return FileResponse(_STATIC / "api.html")


async def _openapi(request: Request) -> Response:
    return JSONResponse(openapi(service_of(request).settings))


async def _metrics(request: Request) -> Response:
    body = await to_thread.run_sync(generate_latest, request.app.state.registry)
    return Response(body, media_type=CONTENT_TYPE_LATEST)
