"""Cross-origin requests of web pages (the Fetch standard): none by default, and those of ``[cors] origins``.

Keys are sent in headers, never in cookies: a page has only the key that somebody has given to it. ``"*"`` never comes
with ``access-control-allow-credentials``; named origins have it, for pages behind a proxy that signs people in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ALLOWED_METHODS = b"GET, HEAD, POST, DELETE, OPTIONS"
#: What a page may read of an answer, besides what the standard lets everybody read.
EXPOSED = (
    b"retry-after, retry-after-ms, server-timing, x-request-id, x-router-attempts, x-router-backend, x-router-model, "
    b"x-router-region, x-should-retry, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, "
    b"x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, "
    b"x-ratelimit-reset-requests, x-ratelimit-reset-tokens"
)
_MAX_AGE_S = 600
_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_NAMES_BYTES = 4096
_ORIGIN = re.compile(rb"\r\norigin:([^\r\n]*)\r\n", re.IGNORECASE)


def origin_in(head: bytes) -> bytes | None:
    """The origin in a head that was not understood, or not read to its end. It is not safe to write back."""
    found = _ORIGIN.search(head)
    return found.group(1).strip() if found is not None else None


class Cors:
    """Which origins may read answers, and the header lines that say so."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.lower().encode() for origin in origins)

    def lines(self, origin: bytes | None) -> bytes:
        """Header lines of an answer to a request with this ``origin``."""
        if self._any:
            return (
                b"access-control-allow-origin: *\r\naccess-control-expose-headers: %b\r\n" % EXPOSED if origin else b""
            )
        if not self._origins:
            return b""
        if origin is None or origin.lower() not in self._origins:
            return b"vary: origin\r\n"
        return (
            b"vary: origin\r\naccess-control-allow-origin: %b\r\naccess-control-allow-credentials: true\r\n"
            b"access-control-expose-headers: %b\r\n" % (origin, EXPOSED)
        )

    def preflight(self, origin: bytes | None, asked: bytes | None) -> bytes:
        """Further lines of the answer to OPTIONS. ``asked``: ``access-control-request-headers``, which are granted."""
        if origin is None or not (self._any or origin.lower() in self._origins):
            return b""
        granted = b""
        if asked and len(asked) <= _NAMES_BYTES and _NAMES.fullmatch(asked):
            granted = b"access-control-allow-headers: %b\r\n" % asked
        return b"access-control-allow-methods: %b\r\n%baccess-control-max-age: %d\r\n" % (
            ALLOWED_METHODS,
            granted,
            _MAX_AGE_S,
        )
