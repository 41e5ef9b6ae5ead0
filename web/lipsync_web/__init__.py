"""A web page, a WebRTC door (WHEP, WHIP) and jobs over HTTP, for the avatars of a lip-sync server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._app import create_app
    from ._settings import WebSettings

__all__ = ["WebSettings", "create_app"]


def __getattr__(name: str) -> object:
    """Return a public name; its module is imported now, so that workers do not import the web framework."""
    if name == "create_app":
        from ._app import create_app

        return create_app
    if name == "WebSettings":
        from ._settings import WebSettings

        return WebSettings
    raise AttributeError(name)
