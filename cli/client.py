"""HTTP towards a running router with the standard library, so that the CLI starts in an instant.

One connection per call: an operator's command makes one or two. Errors come out as CliError with
what to do next; nothing else in the CLI sees a socket.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

from cli.contexts import url_problem
from cli.errors import CliError, Exit, SilentError, StatusError

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

#: How long an answer may take, or the next part of it: the router knows it, or asks the others for 1.5 s at most ...
LOOK_S = 3.0
#: ... or it does something, or plays what would happen: then the store or a backend has a part in it.
WORK_S = 10.0

#: Longest event of a stream in bytes: an endless line must be an error and not fill the memory.
_EVENT_BYTES_MAX = 8 * 1024 * 1024


class Event(NamedTuple):
    """One server-sent event."""

    data: str
    name: str = "message"


class Reply(NamedTuple):
    """The answer to one POST of the client surface, whose body is still arriving."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    events: Iterator[Event]
    #: JSON of the body, when the answer is not an event stream
    body: Any = None


class Remote(Protocol):
    """A router as the commands see it. ``path`` is absolute; segments from people go through ``segment``."""

    url: str

    def get(self, path: str, **query: object) -> Any: ...
    def post(self, path: str, body: object | None = None) -> Any: ...
    def patch(self, path: str, body: object) -> Any: ...
    def delete(self, path: str) -> Any: ...
    def tail(self, path: str, **query: object) -> Iterator[Event]: ...
    def stream(
        self, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Reply]: ...


def segment(text: str) -> str:
    """``text`` as one piece of a path. The slash of a backend's name stays: us-east/a."""
    return quote(text, safe="/", errors="surrogateescape")


def utf8(text: str) -> bytes:
    """What was typed: Python marks bytes that are not of the locale's encoding, which may be ASCII, as surrogates."""
    return text.encode("utf-8", "surrogateescape")


def patience_s(method: str) -> float:
    """How long to wait for the answer to this. A router that is asked to look and is silent for longer hangs."""
    return LOOK_S if method == "GET" else WORK_S


class HttpRemote:
    """``Remote`` over HTTP. ``what`` names it in errors; ``hint`` and ``denied`` say what to do when nobody
    answers and when the token is missing or wrong. ``operator`` is who asks. ``timeout_s``: None goes by what is asked
    (``patience_s``)."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        what: str,
        hint: str,
        denied: str,
        operator: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._what = what
        self._hint = hint
        self._denied = denied
        self._operator = operator
        self._timeout_s = timeout_s
        if (problem := url_problem(self.url)) is not None:
            raise CliError(problem, code=Exit.USAGE)
        self._parts = urlsplit(self.url)

    def get(self, path: str, **query: object) -> Any:
        return self._json("GET", _with_query(path, query))

    def post(self, path: str, body: object | None = None) -> Any:
        return self._json("POST", path, body)

    def patch(self, path: str, body: object) -> Any:
        return self._json("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self._json("DELETE", path)

    def tail(self, path: str, **query: object) -> Iterator[Event]:
        """Events as they happen, until the router goes away or the caller stops asking."""
        wants = {"accept": "text/event-stream"}
        with self._open("GET", _with_query(path, query), headers=wants) as (connection, reply):
            self._check(reply)
            if connection.sock is not None:
                connection.sock.settimeout(None)
            yield from _events(reply)

    @contextmanager
    def stream(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Iterator[Reply]:
        """POST, and the answer as it comes. Raises StatusError when the router refuses.

        Only the connection has a deadline: the router has its own, and a late first token is not an error.
        """
        with self._open("POST", path, body, headers or {}, patient=True) as (_, raw):
            self._check(raw)
            heads = {name.lower(): value for name, value in raw.getheaders()}
            if heads.get("content-type", "").startswith("text/event-stream"):
                yield Reply(raw.status, heads, _events(raw))
            else:
                yield Reply(raw.status, heads, iter(()), _parse(raw.read()))

    def _json(self, method: str, path: str, body: object | None = None) -> Any:
        with self._open(method, path, body) as (_, reply):
            self._check(reply)
            return _parse(reply.read())

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        body: object | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        patient: bool = False,
    ) -> Iterator[tuple[HTTPConnection, HTTPResponse]]:
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        make = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        wait_s = patience_s(method) if self._timeout_s is None else self._timeout_s
        connection = make(self._parts.hostname or "", self._parts.port, timeout=wait_s)
        heads: dict[str, str | bytes] = {"accept": "application/json", "x-router-admin": "1", **(headers or {})}
        if self._operator:
            heads["x-router-operator"] = utf8(self._operator)
        raw = None
        if body is not None:
            raw = utf8(json.dumps(body, ensure_ascii=False))
            heads["content-type"] = "application/json"
        if self._token:
            heads["authorization"] = b"Bearer " + utf8(self._token)
        connected = False
        try:
            connection.connect()
            connected = True
            if patient:
                connection.sock.settimeout(None)
            try:
                connection.request(method, self._parts.path + path, raw, heads)
            except ValueError as error:
                message = "the key or token, or a header, holds what HTTP cannot send"
                raise CliError(message, code=Exit.USAGE) from error
            yield connection, connection.getresponse()
        except TimeoutError as error:
            raise self._silent(method, wait_s, connected=connected or connection.sock is not None) from error
        except (OSError, HTTPException) as error:
            raise self._unreachable(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _unreachable(self, reason: str) -> CliError:
        text = f"cannot reach {self._what} at {self.url}: {reason.lower()}"
        return CliError(text, code=Exit.UNREACHABLE, hint=self._hint)

    def _silent(self, method: str, wait_s: float, *, connected: bool) -> CliError:
        """Nothing came in time. Who takes a connection is there, and hangs; ``_hint`` would have one started."""
        if not connected:
            return self._unreachable(f"no answer within {wait_s:g} s; --timeout waits longer")
        hint = "It took the connection: its process may be stopped or overloaded. --timeout waits longer."
        if method != "GET":
            hint += " When it goes on, it does what was asked."
        text = f"{self._what} at {self.url} does not answer: nothing came within {wait_s:g} s"
        return SilentError(text, code=Exit.UNREACHABLE, hint=hint)

    def _check(self, reply: HTTPResponse) -> None:
        """Raise StatusError unless the status is a success."""
        if reply.status < 400:
            return
        try:
            error = json.loads(reply.read())["error"]
        except (ValueError, KeyError, TypeError):
            error = {}
        if not isinstance(error, dict):
            error = {"message": str(error)}
        wait = reply.headers.get("retry-after")
        refusal = StatusError(
            reply.status,
            error or {"message": f"{self._what} answered HTTP {reply.status}"},
            hint=self._denied if reply.status == 401 else self._elsewhere(reply),
            retry_after_s=float(wait) if wait and wait.isdigit() else None,
        )
        refusal.request_id = reply.headers.get("x-request-id")
        raise refusal

    def _elsewhere(self, reply: HTTPResponse) -> str | None:
        """An admin path that is unknown where requests have ids: clients are served there."""
        if self._operator is None or reply.status != 404 or reply.headers.get("x-request-id") is None:
            return None
        return f"{self.url} is the address for clients; the router's file has the admin address: [router] admin."


def _with_query(path: str, query: Mapping[str, object]) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, errors='surrogateescape')}" if given else path


def _parse(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError as error:
        raise CliError("the answer is not JSON", hint="Is this a Meridian router?") from error


#: A stream tells with it which backend continues the answer.
_OWN_COMMENT = ": router "


def _events(reply: HTTPResponse) -> Iterator[Event]:
    """Server-sent events of a body. An event cut short by the end of the stream is dropped, and so are comments, except
    the router's own: each is an event named ``router``."""
    name, lines, size = "message", list[str](), 0
    while line := reply.readline(_EVENT_BYTES_MAX + 1):
        size += len(line)
        if size > _EVENT_BYTES_MAX:
            raise CliError(f"an event of the stream is larger than {_EVENT_BYTES_MAX} bytes")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            if lines:
                yield Event("\n".join(lines), name)
            name, lines, size = "message", [], 0
        elif text.startswith("data:"):
            lines.append(text[5:].removeprefix(" "))
        elif text.startswith(_OWN_COMMENT):
            yield Event(text.removeprefix(_OWN_COMMENT), "router")
        elif text.startswith("event:"):
            name = text[6:].strip()
