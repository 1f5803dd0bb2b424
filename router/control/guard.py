"""Who may use the admin API: the holder of a token, for what its role allows; and where no token is needed, which is
possible on loopback only, whoever is on this machine.

Not a web page that an operator visits, though it may send requests through a browser on this machine:

- whatever ``Origin``, ``Sec-Fetch-Site`` or ``Referer`` shows to come from another site is refused;
- without a token the ``Host`` must be an address or localhost, so that no foreign name can be pointed at the listener
  (DNS rebinding), and what changes something needs a header that a page cannot send to another site unasked.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from aiohttp import web

from router.control.callers import NAME, ROLE
from router.control.operators import Operator, Operators
from router.control.replies import failure
from router.telemetry.history import Note, say_nothing

_GUESSES = 10
_WINDOW_S = 10.0
_PEERS_MAX = 1024
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: What a browser says of a request that no page of another site has made: by the address bar, or from the same origin.
_OWN_SITES = frozenset({"none", "same-origin"})
#: Any value will do: a form or a link cannot send it, and for a script's request the browser asks first.
ADMIN_HEADER = "X-Router-Admin"


class Guard:
    """Checks one request at a time; the routes it is not asked about are open. ``note`` hears of who was refused."""

    def __init__(self, operators: Operators, now_s: Callable[[], float]) -> None:
        self.operators = operators
        self.note: Note = say_nothing
        self._now_s = now_s
        self._guesses: OrderedDict[str, tuple[float, int]] = OrderedDict()  # window start, wrong tokens

    def refusal(self, request: web.Request, role: str) -> web.Response | None:
        """The answer to a request that may not pass; None when it may. ``role``: what is needed for what it asks."""
        if is_foreign(request.headers):
            return failure("forbidden", "Requests of web pages are not answered.")
        if not self.operators.needed:
            return _refusal_without_token(request)
        peer = request.remote or ""
        if self._too_many(peer):
            response = failure("too_many_attempts")
            response.headers["Retry-After"] = str(int(_WINDOW_S))
            return response
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # As bytes: the header may hold any character.
        given_bytes = given.strip().encode("utf-8", "surrogateescape")
        operator = self.operators.find(given_bytes) if scheme.lower() == "bearer" else None
        if operator is not None:
            request[NAME], request[ROLE] = operator.name, operator.role
            return None if operator.may(role) else self._not_enough(request, operator, role)
        if given:
            self._count(peer)
        response = failure("unauthorized", "The admin token is missing or wrong.")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _not_enough(self, request: web.Request, operator: Operator, role: str) -> web.Response:
        if role != "read":
            told = f"needs the role {role}, has {operator.role}"
            self.note("operator", f"{request.method} {request.path}", after="forbidden", why=told, who=operator.name)
        text = f"This needs the role {role}; the operator {operator.name} has the role {operator.role}."
        return failure("forbidden", text, role_needed=role)

    def _too_many(self, peer: str) -> bool:
        since_s, wrong = self._guesses.get(peer, (0.0, 0))
        return wrong >= _GUESSES and self._now_s() - since_s < _WINDOW_S

    def _count(self, peer: str) -> None:
        now_s = self._now_s()
        since_s, wrong = self._guesses.pop(peer, (now_s, 0))
        self._guesses[peer] = (since_s, wrong + 1) if now_s - since_s < _WINDOW_S else (now_s, 1)
        if len(self._guesses) > _PEERS_MAX:
            self._guesses.popitem(last=False)


def _refusal_without_token(request: web.Request) -> web.Response | None:
    if not is_local_name(request.headers.get("Host", "")):
        return failure("forbidden", "Without a token, use the address or localhost in the URL.")
    if request.method in _SAFE or ADMIN_HEADER in request.headers or request.content_type == "application/json":
        return None
    text = f"What changes something needs the header {ADMIN_HEADER}: 1, or Content-Type: application/json."
    return failure("forbidden", text)


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Do the headers show that a page of another site made the request? Programs send none of these three."""
    if "Origin" in headers:
        return True
    if headers.get("Sec-Fetch-Site", "none").strip().lower() not in _OWN_SITES:
        return True
    referer = headers.get("Referer")
    return referer is not None and _authority(referer) != headers.get("Host", "").strip().lower()


def _authority(url: str) -> str | None:
    """HOST:PORT as the URL has it; None when it has none."""
    try:
        parts = urlsplit(url.strip())
        return parts.netloc.lower() if parts.scheme in ("http", "https") and parts.netloc else None
    except ValueError:
        return None


def is_local_name(host: str) -> bool:
    """Is it localhost or an address, with or without a port?"""
    name, rest = host, ""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        rest = rest.removeprefix(":") if rest.startswith(":") else rest and "no port"
    elif host.count(":") == 1:
        name, _, rest = host.partition(":")
    if rest and not (rest.isascii() and rest.isdigit()):
        return False
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
