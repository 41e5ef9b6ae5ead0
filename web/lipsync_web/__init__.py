"""A web page and a WebRTC door (WHEP, WHIP) for the avatars of a lip-sync server."""

from ._app import create_app
from ._settings import WebSettings

__all__ = ["WebSettings", "create_app"]
