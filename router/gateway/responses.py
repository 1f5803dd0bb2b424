"""The heads of the answers that we write ourselves, and what of a backend's headers is passed on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from router.core.forms import Form, form_of
from router.core.limits import KINDS
from router.errors import RouterError
from router.store.base import Refusal, Reservation
from router.wire.head import Headers, connection_options

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_REASONS[499] = b"Client Closed Request"
_STATUS_LINES = {status: b"HTTP/1.1 %d %b\r\n" % (status, reason) for status, reason in _REASONS.items()}

#: Of a backend's headers only these reach the client.
PASSED = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"content-language",
        b"content-disposition",
        b"cache-control",
        b"openai-processing-ms",
        b"openai-version",
        b"openai-model",
        b"endpoint-load-metrics",
    }
)


class DateHeader:
    """``date: …`` in bytes, as of the last call of ``at``; formatted once a second."""

    __slots__ = ("_second", "line")

    def __init__(self, wall_s: float) -> None:
        self._second = 0
        self.line = b""
        self.at(wall_s)

    def at(self, wall_s: float) -> None:
        if int(wall_s) != self._second:
            self._second = int(wall_s)
            self.line = b"date: " + formatdate(self._second, usegmt=True).encode() + b"\r\n"


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


#: Proxies are told to let every part of a stream through at once.
_UNBUFFERED = b"x-accel-buffering: no\r\n"
_UNCACHED = b"cache-control: no-cache\r\n"


@dataclass(slots=True, eq=False)
class Passed:
    """What of a backend's headers matters to the client. Shared by answers with the same head.

    ``stream_lines`` are for an answer that is passed on as it comes.
    """

    lines: bytes
    stream_lines: bytes
    form: Form


def passed_of(headers: Headers) -> Passed:
    """Made once per distinct head of a backend, and kept with it."""
    named = b", ".join([value for name, value in headers if name == b"connection"])
    names = PASSED - connection_options({b"connection": named})  # what is named there was meant for this router
    passed = [(name, value) for name, value in headers if name in names]
    kept = [(name, value) for name, value in passed if name != b"cache-control" or _forbids_caching(value)]
    stream = [b"%b: %b\r\n" % field for field in kept]
    if not any(name == b"cache-control" for name, _ in kept):
        stream.append(_UNCACHED)
    found = dict(headers)
    headers.meaning = meaning = Passed(
        b"".join([b"%b: %b\r\n" % field for field in passed]),
        b"".join((*stream, _UNBUFFERED)),
        form_of(found.get(b"content-type", b""), found.get(b"content-encoding", b"")),
    )
    return meaning


def _forbids_caching(value: bytes) -> bool:
    return b"no-cache" in value.lower() or b"no-store" in value.lower()


_ANSWER_HEAD = (
    b"%b%b%b%bx-request-id: %b\r\n%bx-router-attempts: %d\r\nserver-timing: wait;dur=%.2f, upstream;dur=%.2f\r\n\r\n"
)


def answer_head(
    status: int,
    date: bytes,
    passed: bytes,
    lines: bytes,
    request_id: bytes,
    stamp: bytes,
    attempts: int,
    wait_s: float,
    upstream_s: float,
) -> bytes:
    """The head of a backend's answer. ``passed`` are the backend's own header lines, ``lines`` those about framing and
    limits, ``stamp`` those that name the backend."""
    return _ANSWER_HEAD % (
        status_line(status),
        date,
        passed,
        lines,
        request_id,
        stamp,
        attempts,
        wait_s * 1000,
        upstream_s * 1000,
    )


def early_head(date: bytes, lines: bytes, request_id: bytes) -> bytes:
    """The head of a stream that begins before any backend has answered: it cannot say who will."""
    return b"%b%bcontent-type: text/event-stream\r\n%b%b%bx-request-id: %b\r\n\r\n" % (
        status_line(200),
        date,
        _UNCACHED,
        _UNBUFFERED,
        lines,
        request_id,
    )


def stamp_lines(region: str, backend: str, attempts: int) -> bytes:
    """Header lines of an error that say which backend was asked last."""
    return b"x-router-region: %b\r\nx-router-backend: %b\r\nx-router-attempts: %d\r\n" % (
        region.encode(),
        backend.encode(),
        attempts,
    )


def header_pairs(lines: bytes) -> tuple[tuple[str, str], ...]:
    """Header lines as RouterError carries them."""
    split = (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    return tuple((name.decode(), value.decode("latin-1")) for name, _, value in split)


def error_headers(error: RouterError) -> list[bytes]:
    lines = [b"%b: %b\r\n" % (name.encode(), value.encode("latin-1", "replace")) for name, value in error.headers]
    if error.retry_after_s is not None:
        wait_ms = max(1, math.ceil(error.retry_after_s * 1000))
        lines.append(b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (max(1, math.ceil(wait_ms / 1000)), wait_ms))
    if error.should_retry is not None:
        lines.append(b"x-should-retry: true\r\n" if error.should_retry else b"x-should-retry: false\r\n")
    return lines


def connection_line(*, keep_alive: bool, http11: bool) -> bytes:
    """A client of HTTP/1.0 must be told that its connection is kept, every other that it is not."""
    if keep_alive:
        return b"" if http11 else b"connection: keep-alive\r\n"
    return b"connection: close\r\n"


def plain(
    status: int,
    body: bytes,
    *,
    date: DateHeader,
    content_type: bytes = b"application/json",
    keep_alive: bool,
    http11: bool = True,
    lines: list[bytes],
    head: bool = False,
) -> bytes:
    """A whole answer of our own. ``head``: the headers only, for a HEAD request."""
    return b"".join(
        (
            status_line(status),
            date.line,
            b"content-type: %b\r\ncontent-length: %d\r\n" % (content_type, len(body)),
            *lines,
            connection_line(keep_alive=keep_alive, http11=http11),
            b"\r\n",
            b"" if head else body,
        )
    )


_RATE_LIMIT = {
    kind.name: b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
    % ((kind.header,) * 3)
    for kind in KINDS
    if kind.header is not None
}


def rate_limit_lines(state: Reservation | Refusal) -> bytes:
    """``x-ratelimit-*`` with OpenAI's names; only of the limits that exist."""
    rates = state.shown
    if rates.lines is None:
        lines = [_RATE_LIMIT[r.limit] % (r.most, r.remaining, duration(r.reset_s)) for r in rates]
        rates.lines = b"".join(lines)
    return rates.lines


def duration(seconds: float) -> bytes:
    """As OpenAI writes it: 20ms, 1.5s, 6m0s."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000) if seconds > 0 else b"0ms"
    if seconds < 60:
        return b"%gs" % round(seconds, 3)
    minutes, rest = divmod(math.ceil(seconds), 60)
    return b"%dm%ds" % (minutes, rest)
