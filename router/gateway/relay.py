"""The answer of one attempt on its way to the client.

A relay holds what the backend says until the first content token (or a whole short answer), so that every failure up
to then can be hidden by another attempt. From the commit on, bytes go on as they come, one write per read; nothing
wakes a task, nothing parses JSON. The end is reported once, through ``ended``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson

from router.core.outcomes import Outcome
from router.core.sse import StreamKind, StreamWatch, read_usage
from router.core.types import Usage
from router.upstream.classify import AttemptEnd, outcome_of_status, retry_after_s, status_of_error
from router.wire.flow import Signal
from router.wire.inbound import Inbound
from router.wire.outbound import Headers, Outbound

#: How much of an answer is held back before it is passed on uncommitted, in bytes.
HOLD_STREAM_BYTES = 64 * 1024
HOLD_WHOLE_BYTES = 256 * 1024
#: A usage object stands at the end of a long answer.
_USAGE_TAIL_BYTES = 4096
_ERROR_BODY_BYTES = 64 * 1024
_LAST_CHUNK = b"0\r\n\r\n"


class Relay:
    """One attempt's answer (a wire.outbound.Sink).

    commit(relay, length) is called at the commit and returns the answer's head for the client; ``length`` is the size
    of a whole answer, or None if it is sent in chunks.
    """

    __slots__ = (
        "_chunked",
        "_commit",
        "_error",
        "_gap_s",
        "_held",
        "_held_bytes",
        "_inbound",
        "_limit_s",
        "_loop",
        "_outbound",
        "_progress_s",
        "_tail",
        "_timer",
        "_watch",
        "_whole",
        "committed",
        "delivered_bytes",
        "ended",
        "headers",
        "now_s",
        "status",
    )

    def __init__(
        self,
        inbound: Inbound,
        outbound: Outbound,
        *,
        kind: StreamKind,
        choices: int,
        sum_usage: bool,
        http11: bool,
        limit_s: float,
        gap_s: float,
        commit: Callable[[Relay, int | None], bytes],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._commit = commit
        self._loop = loop
        self._chunked = http11
        self._watch = StreamWatch(kind, choices=choices, sum_usage=sum_usage)
        self._whole = True
        self._error = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._tail = b""
        self._limit_s = limit_s
        self._gap_s = gap_s
        self.now_s = loop.time
        self._progress_s = self.now_s()
        self._timer = loop.call_later(limit_s, self._tick)
        self.status = 0
        self.headers: Headers = []
        self.committed = False
        self.delivered_bytes = 0
        self.ended: Signal[AttemptEnd] = Signal()

    @property
    def usage(self) -> Usage | None:
        """Tokens of the answer so far, None if nothing can be said."""
        if self._whole:
            return self._read_whole_usage()
        return self._watch.usage

    def close(self) -> None:
        """No more timers; whatever still comes is ignored."""
        self._timer.cancel()

    def pause(self, paused: bool) -> None:
        """The client cannot keep up (or can again): stop reading from the backend."""
        if paused:
            self._outbound.transport.pause_reading()
        else:
            self._progress_s = self.now_s()
            self._outbound.transport.resume_reading()

    def give_up(self, detail: str) -> None:
        """The backend was found dead while this request waited for its first token: let another one answer."""
        if not self.committed and not self.ended.is_set:
            self._outbound.abort()
            self._end(AttemptEnd(Outcome.UNREACHABLE, "upstream_unreachable", detail=detail))

    # wire.outbound.Sink

    def on_head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self._error = not 200 <= status < 300
        for name, value in headers:
            if name == b"content-type":
                self._whole = self._error or not value.startswith(b"text/event-stream")
                break

    def on_body(self, data: bytes) -> None:
        if not self._whole:
            self._stream(data)
        elif self.committed:
            self._tail = (self._tail + data)[-_USAGE_TAIL_BYTES:]
            self._write(data)
        else:
            self._hold(data)
            if self._held_bytes > HOLD_WHOLE_BYTES and not self._error:
                self._commit_now(None)

    def on_end(self, *, framed: bool) -> None:
        if self._error:
            self._end(self._error_end())
        elif self._whole:
            self._end_whole(framed)
        else:
            self._end_stream(framed)

    def on_fail(self, reason: str, *, answered: bool) -> None:
        if self.committed and not self._whole and self._watch.complete(framed=False):
            self._end_stream(framed=False)  # everything was said; only the last chunk of the framing is missing
        elif self.committed:
            self._end(self._interrupted("broke the connection"))
        elif reason == "protocol":
            self._end(AttemptEnd(Outcome.SERVER_ERROR, "upstream_protocol", detail="did not answer in HTTP"))
        else:
            stale = self._outbound.served > 0 and not answered
            self._end(
                AttemptEnd(
                    Outcome.UNREACHABLE,
                    "upstream_unreachable",
                    detail="closed the connection before it answered",
                    stale=stale,
                    died=not stale,
                )
            )

    # streams

    def _stream(self, data: bytes) -> None:
        watch = self._watch
        events = watch.events
        out = watch.feed(data)
        if watch.events != events or watch.done:
            self._progress_s = self.now_s()
        if self.committed:
            if out:
                self._write(out)
        elif watch.error is None or watch.started:
            self._hold(out)
            if watch.started or self._held_bytes + watch.held_bytes > HOLD_STREAM_BYTES:
                self._commit_now(None)
        if watch.error is not None:
            self._outbound.abort()
            self._end(self._in_band_error())

    def _in_band_error(self) -> AttemptEnd:
        """Engines report their own death, a full queue or a bad request inside a 200 stream."""
        error = self._watch.error or {}
        if self.committed:
            return self._interrupted("reported an error of its engine")
        status = status_of_error(error)
        outcome = outcome_of_status(status)
        return AttemptEnd(
            outcome,
            "upstream_error",
            status=status,
            detail=f"failed with status {status}",
            body=orjson.dumps({"error": error}),
            content_type=b"application/json",
        )

    def _end_stream(self, framed: bool) -> None:
        watch = self._watch
        rest = watch.flush()
        if watch.complete(framed=framed):
            if not self.committed:
                self._hold(rest)
                self._commit_now(None)
            elif rest:
                self._write(rest)
            self._write_end()
            self._end(AttemptEnd(Outcome.OK, status=self.status))
        elif self.committed:
            self._end(self._interrupted("ended the stream early"))
        elif watch.error is not None:
            self._end(self._in_band_error())
        else:
            self._end(AttemptEnd(Outcome.SERVER_ERROR, "upstream_error", detail="ended the stream without a token"))

    # whole answers

    def _end_whole(self, framed: bool) -> None:
        if self.committed:
            if not framed and self._chunked:
                self._end(self._interrupted("cut the answer"))
                return
            self._write_end()
            self._end(AttemptEnd(Outcome.OK, status=self.status))
            return
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        if not framed and not _is_json(body):
            self._end(AttemptEnd(Outcome.UNREACHABLE, "upstream_unreachable", detail="cut its answer", died=True))
            return
        self._held = [body]
        self._commit_now(len(body))
        self._end(AttemptEnd(Outcome.OK, status=self.status))

    def _read_whole_usage(self) -> Usage | None:
        if self._error or not (self._held or self._tail):
            return None
        data = self._tail or self._held[0]
        at = data.rfind(b'"usage"')
        if at < 0:
            return None
        return read_usage(_object_at(data, at + 7))

    def _error_end(self) -> AttemptEnd:
        outcome = outcome_of_status(self.status)
        body = b"".join(self._held)[:_ERROR_BODY_BYTES]
        content_type = next((v for n, v in self.headers if n == b"content-type"), b"")
        if 300 <= self.status < 400:
            return AttemptEnd(Outcome.SERVER_ERROR, "upstream_protocol", self.status, "answered with a redirect")
        return AttemptEnd(
            outcome,
            "upstream_error",
            self.status,
            f"failed with status {self.status}",
            retry_after_s(self.headers),
            body=body,
            content_type=content_type,
        )

    # writing

    def _hold(self, data: bytes) -> None:
        if not data:
            return
        if self._error and self._held_bytes > _ERROR_BODY_BYTES:
            return
        self._held.append(data)
        self._held_bytes += len(data)

    def _commit_now(self, length: int | None) -> None:
        self.committed = True
        self._progress_s = self.now_s()
        if length is None and self._gap_s < self._limit_s:
            self._timer.cancel()
            self._timer = self._loop.call_later(self._gap_s, self._tick)
        head = self._commit(self, length)
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        if length is None:
            self._held = []
            self._tail = body[-_USAGE_TAIL_BYTES:] if self._whole else b""
            self.delivered_bytes += len(body)
            if self._chunked and body:
                self._inbound.write(b"%b%x\r\n%b\r\n" % (head, len(body), body))
            else:
                self._inbound.write(head + body)
            if self._inbound.paused:
                self.pause(True)
        else:
            self.delivered_bytes += length
            self._inbound.write(head + body)

    def _write(self, data: bytes) -> None:
        self.delivered_bytes += len(data)
        if self._chunked:
            self._inbound.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._inbound.write(data)

    def _write_end(self) -> None:
        if self._chunked:
            self._inbound.write(_LAST_CHUNK)

    def write_in_band(self, event: bytes) -> None:
        """The error event that ends a broken stream; the caller aborts the connection after it."""
        self._write(event)

    # the end

    @property
    def is_stream(self) -> bool:
        return not self._whole

    def _interrupted(self, detail: str) -> AttemptEnd:
        return AttemptEnd(Outcome.TRUNCATED, "stream_interrupted", self.status, detail)

    def _end(self, end: AttemptEnd) -> None:
        self._timer.cancel()
        self.ended.set(end)

    def _tick(self) -> None:
        """A limit may have passed: first token (or whole answer) before the commit, the gap between events after it."""
        limit_s = self._gap_s if self.committed else self._limit_s
        left_s = self._progress_s + limit_s - self.now_s()
        if self._inbound.paused:
            left_s = max(left_s, 1.0)  # the client is the slow one
        if left_s > 0.001:
            self._timer = self._loop.call_later(left_s, self._tick)
            return
        self._outbound.abort()
        if self.committed:
            self._end(self._interrupted("sent no token in time"))
        else:
            self._end(
                AttemptEnd(
                    Outcome.FIRST_TOKEN_TIMEOUT, "first_token_timeout", self.status, "gave no first token in time"
                )
            )


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def _object_at(data: bytes, start: int) -> object:
    """The JSON object that begins after ``start`` and a colon; None if it is not whole."""
    begin = data.find(b"{", start)
    end = begin
    depth = 0
    while begin >= 0:
        close = data.find(b"}", end)
        if close < 0:
            return None
        depth += data.count(b"{", end, close) - 1
        end = close + 1
        if depth <= 0:
            try:
                return orjson.loads(data[begin:end])
            except orjson.JSONDecodeError:
                return None
    return None
