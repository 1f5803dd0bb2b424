"""Who has asked for something, and what is noted of it in the history."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from aiohttp import web

from router.control.plane import ControlPlane
from router.telemetry.history import Note, say_nothing
from router.telemetry.text import clean

#: Who asks, in his own words: believed where nobody needs a token, as on a worker's private socket.
OPERATOR_HEADER = "X-Router-Operator"
#: The same call goes to several workers, and another one of them notes it.
ECHO_HEADER = "X-Router-Echo"
#: Under these keys of a request, the name of its token and the role.
NAME: web.RequestKey[str] = web.RequestKey("name", str)
ROLE: web.RequestKey[str] = web.RequestKey("role", str)
#: Under it, the change in words, of a call whose path does not say it: ``carl, role read``.
DONE: web.RequestKey[str] = web.RequestKey("done", str)
#: The name of the token, from the process in front of a worker.
_KNOWN_HEADER = "X-Router-Operator-Known"
_NAMELESS = "somebody on this machine"
_NAME_MAX = 100


def who_of(request: web.Request) -> str:
    """The name of the token, or, where there is none, what the caller calls himself."""
    return request.get(NAME) or claimed(request.headers) or _NAMELESS


def by_of(request: web.Request, own_word: str, default: str) -> str:
    """In whose name something is done: that of the token, which a worker has from the process in front of it. The
    caller's own word counts where no token is needed."""
    return request.get(NAME) or clean(request.headers.get(_KNOWN_HEADER, ""), _NAME_MAX) or own_word or default


def claimed(headers: Mapping[str, str]) -> str:
    return clean(headers.get(OPERATOR_HEADER, "").strip(), _NAME_MAX)


def noting(request: web.Request, control: ControlPlane) -> Note:
    """Notes what ``request`` does, with who asked for it."""
    return say_nothing if is_echo(request) else partial(control.chronicle.history.note, who=who_of(request))


def deed(request: web.Request, route: str) -> str:
    """The words of the audit trail for a call, besides its path and how it ended."""
    return f"{route}: {request[DONE]}" if DONE in request else route


def is_echo(request: web.Request) -> bool:
    return ECHO_HEADER in request.headers


def passed_on(request: web.Request) -> dict[str, Any]:
    """The headers that tell another process who asked, and in which format."""
    named = {_KNOWN_HEADER: request[NAME]} if NAME in request else {}
    return {OPERATOR_HEADER: who_of(request), "Accept": request.headers.get("Accept", "*/*")} | named
