"""Who may use the admin API: the holder of the token, and on loopback without a token whoever is on this machine.

Not a web page that an operator visits: no request with an ``Origin`` is answered, and without a token the ``Host``
must be an address or localhost, so that no foreign name can be pointed at the listener (DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

from router.control.replies import failure

_GUESSES = 10
_WINDOW_S = 10.0
_PEERS_MAX = 1024


class Guard:
    """Checks one request at a time; the routes it is not asked about are open."""

    def __init__(self, token: str | None, now_s: Callable[[], float]) -> None:
        self._token = token.encode() if token else None
        self._now_s = now_s
        self._guesses: OrderedDict[str, tuple[float, int]] = OrderedDict()  # window start, wrong tokens

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to a request that may not pass; None when it may."""
        if "Origin" in request.headers:
            return failure(403, "forbidden", "Requests of web pages are not answered.")
        if self._token is None:
            if _is_local_name(request.headers.get("Host", "")):
                return None
            return failure(403, "forbidden", "Without a token, use the address or localhost in the URL.")
        peer = request.remote or ""
        if self._too_many(peer):
            response = failure(429, "too_many_attempts", "Too many wrong tokens; wait a moment.")
            response.headers["Retry-After"] = str(int(_WINDOW_S))
            return response
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # Compared as bytes: the header may hold any character.
        given_bytes = given.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "bearer" and hmac.compare_digest(given_bytes, self._token):
            return None
        if given:
            self._count(peer)
        response = failure(401, "unauthorized", "The admin token is missing or wrong.")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _too_many(self, peer: str) -> bool:
        since_s, wrong = self._guesses.get(peer, (0.0, 0))
        return wrong >= _GUESSES and self._now_s() - since_s < _WINDOW_S

    def _count(self, peer: str) -> None:
        now_s = self._now_s()
        since_s, wrong = self._guesses.pop(peer, (now_s, 0))
        self._guesses[peer] = (since_s, wrong + 1) if now_s - since_s < _WINDOW_S else (now_s, 1)
        if len(self._guesses) > _PEERS_MAX:
            self._guesses.popitem(last=False)


def _is_local_name(host: str) -> bool:
    name = host
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        name = host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
