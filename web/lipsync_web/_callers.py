"""Callers and their tokens: one token for all, or the gateway's list of callers."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

EVERYBODY = "caller"  # the name of whoever holds the only token


class Callers:
    """The callers and their tokens.

    Args:
        token: of a single caller; None for none.
        path: a list as the gateway's `callers.map`: lines `SHA256_OF_TOKEN NAME`. Read once.

    Raises:
        ValueError: a line of the list is of another form.
    """

    def __init__(self, token: str | None, path: Path | None) -> None:
        self._names: dict[str, str] = {}
        if token is not None:
            self._names[_digest(token)] = EVERYBODY
        for number, line in enumerate(path.read_text().splitlines() if path else (), 1):
            words = line.partition("#")[0].split()
            if words and (len(words) != 2 or len(words[0]) != 64):
                raise ValueError(f"{path}, line {number}: expected SHA256_OF_TOKEN NAME")
            if words:
                self._names[words[0].lower()] = words[1]
        self.open = token is None and path is None

    def name(self, authorization: str, address: str) -> str | None:
        """Return a caller's name; without any tokens, the address; None if the token is unknown.

        Args:
            authorization: the header.
            address: the peer's.
        """
        if self.open:
            return address
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest, found = _digest(token.strip()), None
        for known, name in self._names.items():  # all of them: the time says nothing
            if hmac.compare_digest(known, digest):
                found = name
        return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
