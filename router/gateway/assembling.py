"""A whole answer that its engine is asked for as a stream: put together here, and sent in one piece.

The engine notices at once when the client has left, and shows that it makes progress. The client has nothing before the
end, so an answer that breaks off or falls silent is started over elsewhere, unseen.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from router.core.assembly import Assembly, NotWholeError, why_not
from router.core.forms import Form
from router.core.outcomes import Outcome
from router.core.shapes import Assembled, WholeShape
from router.core.sse import StreamWatch
from router.gateway.members import members
from router.gateway.relay import Relay
from router.gateway.responses import Passed
from router.gateway.steps import Body, finish
from router.upstream.classify import DELIVERED, AttemptEnd

if TYPE_CHECKING:
    from router.gateway.aliases import Edit
    from router.gateway.ingress import Ask

_STREAM = b'"stream":true,'
_USAGE = b'"stream_options":{"include_usage":true},'
_CONTENT_TYPE = re.compile(rb"content-type: [^\r]*\r\n")

W = TypeVar("W")


def shape_for(ask: Ask, body: Body, row: Assembled) -> WholeShape | None:
    """The shape of the whole answer to a request, if it is to be put together from a stream."""
    path = ask.envelope.path
    chat = path == b"/v1/chat/completions"
    if not row.by_default or not (chat or path == b"/v1/completions") or ask.choices != 1:
        return None
    if why_not(row, bytes(body), chat=chat) is not None:
        return None
    return row.chat if chat else row.completions


def as_stream(body: Body) -> tuple[Edit, ...]:
    """The edits that make the request for a whole answer one for a stream that tells its usage."""
    begin = body.find(b"{") + 1
    spans = finish(members(body, ("stream",))).get("stream", ()) if body.find(b'"stream"') >= 0 else ()
    if not spans:
        return ((begin, begin, _STREAM + _USAGE),)
    return ((begin, begin, _USAGE), *((*span, b"true") for span in spans))


class AssemblingRelay(Relay[W]):
    """``until_s``: when the whole answer must be there. ``gap_s``: the longest silence once it has begun."""

    __slots__ = ("_assembly", "_gap_s", "_shape", "_until_s")

    def __init__(self, *args: Any, shape: WholeShape, until_s: float, gap_s: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self._shape = shape
        self._assembly = Assembly(chat=bool(shape.message))
        self._until_s = until_s
        self._gap_s = gap_s

    @property
    def events(self) -> int:
        """Events with content that have come from this backend: the client gets them in one piece."""
        return self._watch.events if self._watch is not None else 0

    @property
    def due_s(self) -> float:
        return min(super().due_s, self._until_s)

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        watch = self._watch
        if watch is None:  # an error, or an engine that does not stream
            super().on_body(data, framed)
            return
        events = watch.events
        self._take(watch.feed(data))
        if self.is_set:
            return
        if watch.events != events:
            self._progress_s, self._patience_s = self._deadlines.coarse_now_s, self._gap_s
        if watch.error is not None:
            self._in_band_error(watch)
        elif watch.done:
            self._all_said(watch)

    def on_fail(self, reason: str, *, answered: bool) -> None:
        if self._watch is not None and self._watch.complete(framed=False):
            self._stream_end(self._watch, framed=False)
        else:
            super().on_fail(reason, answered=answered)

    def expire(self) -> None:
        watch = self._watch
        if watch is None or not watch.started or self.is_set:
            super().expire()
        elif watch.complete(framed=False):
            self._outbound.abort()
            self._stream_end(watch, framed=False)
        else:
            self._outbound.abort()
            self._break("sent no token in time")

    def _take(self, events: bytes) -> None:
        try:
            self._assembly.feed(events)
        except NotWholeError as error:
            self._fail(error)

    def _break(self, detail: str) -> None:
        """The client has nothing of it, so it is an answer that failed, not one that was cut."""
        self.set(AttemptEnd(Outcome.SERVER_ERROR, "upstream_error", self.status, detail))

    def _fail(self, error: NotWholeError) -> None:
        self._outbound.abort()
        detail = f"its stream {error}"
        self.set(AttemptEnd(Outcome.SERVER_ERROR, "upstream_protocol", self.status, detail))

    def _stream_end(self, watch: StreamWatch, *, framed: bool) -> None:
        self._take(watch.flush())
        if self.is_set:
            return
        if not watch.complete(framed=framed):
            if watch.error is not None:
                self._in_band_error(watch)
            else:
                self._break("ended the stream early")
            return
        try:
            self._held = self._assembly.whole(self._shape)
        except NotWholeError as error:
            self._fail(error)
            return
        self._reported_usage, self._watch = watch.usage, None
        self.passed = _as_json(self.passed.lines)
        self._commit(len(self._held))
        self.set(DELIVERED)


@lru_cache(maxsize=64)
def _as_json(lines: bytes) -> Passed:
    """The headers of a stream as they would stand before a whole answer."""
    lines = _CONTENT_TYPE.sub(b"content-type: application/json\r\n", lines)
    return Passed(lines, lines, Form.JSON)
