"""The forms of answers, and when the client may get the first of one."""

from __future__ import annotations

from enum import Enum
from typing import Any

from router.core.endings import error_in
from router.core.framing import BEGINNING_BYTES, begins_a_stream
from router.core.leniency import loads
from router.core.whole import is_page


class Form(Enum):
    """As the content type says."""

    EVENTS = "events"  # server-sent events: passed on with the first content token
    JSON = "json"  # when it is whole, or too long to be held
    LINES = "lines"  # JSON in lines: with the first line
    TEXT = "text"  # with its first bytes, if the route does not promise JSON
    OPAQUE = "opaque"  # sound, pictures, what is compressed: with its first byte


class First(Enum):
    """Decide about the first bytes of an answer that does not say that it is a stream of events."""

    HOLD = "hold"
    PASS = "pass"  # noqa: S105
    EVENTS = "events"  # it is one all the same


_LINES_TYPES = (b"ndjson", b"jsonl", b"json-lines", b"jsonlines", b"json-seq")
_OPAQUE_TYPES = (b"audio/", b"image/", b"video/", b"application/octet-stream")
#: Streams of events begin with one of these, JSON with one of those.
_EVENT_BEGINNINGS = b"dier:\xef\r\n"
_JSON_BEGINNINGS = (b"{", b"[")


def form_of(content_type: bytes, encoding: bytes = b"") -> Form:
    """Media types know no case (RFC 9110 8.3.1)."""
    media = content_type.partition(b";")[0].strip().lower()
    if encoding.strip().lower() not in (b"", b"identity"):
        return Form.OPAQUE
    if media == b"text/event-stream":
        return Form.EVENTS
    if media.endswith(_LINES_TYPES):
        return Form.LINES
    if not media or media.endswith((b"/json", b"+json")):
        return Form.JSON
    return Form.OPAQUE if media.startswith(_OPAQUE_TYPES) else Form.TEXT


def first_of(form: Form, begin: bytes, *, streams: bool, promised: bool) -> First | dict[str, Any]:
    """The form that its beginning allows; an error if the engine reports one in its first line.

    ``streams``: the client asked for a stream. ``promised``: the route promises JSON.
    """
    if form is Form.JSON and not streams:
        return First.HOLD
    if streams and begin[:1] in _EVENT_BEGINNINGS:
        if begins_a_stream(begin):
            return First.EVENTS
        if len(begin) < BEGINNING_BYTES:
            return First.HOLD
    if form is Form.OPAQUE:
        return First.PASS
    text = begin.lstrip()
    if text.startswith(_JSON_BEGINNINGS):
        return (
            _first_line(text) if form is Form.LINES or (streams and not promised) or form is Form.TEXT else First.HOLD
        )
    if promised or form is Form.JSON or not text:
        return First.HOLD
    if text.startswith(b"<") and (is_page(text) or len(text) < BEGINNING_BYTES):
        return First.HOLD
    return First.PASS


def _first_line(text: bytes) -> First | dict[str, Any]:
    """JSON over several lines is held: it is not a stream."""
    line, end, _ = text.partition(b"\n")
    if not end:
        return First.HOLD
    try:
        document = loads(line)
    except ValueError:
        return First.HOLD
    error = error_in(document) if isinstance(document, dict) else None
    return First.PASS if error is None else error
