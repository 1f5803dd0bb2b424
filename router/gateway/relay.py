"""The answer of one attempt on its way to the client.

A relay holds what the backend says until the first content token (or a whole short answer), so that every failure up
to then can be hidden by another attempt. From the commit on, bytes go on as they come, one write per read; nothing
wakes a task, nothing parses JSON. The relay is the signal of its own end: whoever awaits it gets the AttemptEnd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from router.core import whole
from router.core.forms import First, Form, first_of
from router.core.framing import begins_a_stream
from router.core.outcomes import Outcome
from router.core.sse import StreamWatch
from router.core.types import Usage
from router.core.usage import usage_at_end
from router.gateway.responses import Passed, passed_of
from router.upstream.answers import end_of_whole, no_answer
from router.upstream.classify import DELIVERED, ODD_SUCCESSES, AttemptEnd, end_in_band, end_of_answer
from router.wire.flow import Signal

if TYPE_CHECKING:
    from router.gateway.exchange import Exchange
    from router.gateway.ingress import Ask
    from router.upstream.pool import Pool
    from router.wire.head import Headers
    from router.wire.outbound import Outbound

#: How much of an answer is held back before it is passed on uncommitted, in bytes.
HOLD_STREAM_BYTES = 64 * 1024
HOLD_WHOLE_BYTES = 256 * 1024
#: Responses repeat the instructions and tools of the request before they say anything: then so much more is held.
_REPEATED_TIMES = 3
HOLD_BYTES_MAX = 4 * 1024 * 1024
#: A usage object stands at the end of a long answer.
_USAGE_TAIL_BYTES = 4096
_ERROR_BODY_BYTES = 64 * 1024
_LAST_CHUNK = b"0\r\n\r\n"
#: An engine that has said everything has this long to end its answer, in seconds; then the router ends it.
_DONE_GRACE_S = 0.25
#: A silent stream of a backend that is ejected or refuses connections is ended after this long, in seconds.
_DOUBTED_SILENCE_S = 5.0


class Owner(Protocol):
    """Who has sent the request and keeps time."""

    #: seconds, a few hundredths old at most
    coarse_now_s: float

    def commit(self, x: Exchange, relay: Relay, length: int | None) -> bytes:
        """The client is answered from now on: the head of the answer. ``length``: of a whole answer, else None."""

    def shorten(self, relay: Relay, patience_s: float) -> None:
        """Let the relay be patient for no longer than this from now on."""


class Relay(Signal[AttemptEnd]):
    """One attempt's answer (a wire.outbound.Sink).

    ``patience_s`` is how long it may take to the first token, or to the whole answer, and after the commit to the next
    event. Comments are a sign of life then, and bear ``comments_s`` without an event: engines send nothing else while
    they hold back a tool call.
    """

    __slots__ = (
        "_ask",
        "_chunks",
        "_comments_s",
        "_ending",
        "_error",
        "_headers",
        "_held",
        "_hides_usage",
        "_inbound",
        "_life_s",
        "_outbound",
        "_owner",
        "_patience_s",
        "_progress_s",
        "_reported_usage",
        "_tail",
        "_watch",
        "_x",
        "committed",
        "delivered_bytes",
        "passed",
        "pool",
        "status",
    )

    def __init__(
        self,
        owner: Owner,
        x: Exchange,
        ask: Ask,
        pool: Pool,
        outbound: Outbound,
        began_s: float,
        patience_s: float,
        *,
        hides_usage: bool,
    ) -> None:
        self.is_set = False
        self._flow = None
        self._owner = owner
        self._x = x
        self._ask = ask
        self._inbound = x.inbound
        self._hides_usage = hides_usage
        self.pool = pool
        self._outbound = outbound
        self._progress_s = began_s
        self._patience_s = patience_s
        self._life_s = self._comments_s = 0.0
        self._ending = False  # everything was said; only the end of the answer is waited for
        self._watch: StreamWatch | None = None  # of a stream
        self._reported_usage: Usage | None = None  # of a whole answer that was held
        self._held = self._tail = b""
        self._chunks = False  # the client is being answered in chunks
        self.committed = False
        self.delivered_bytes = 0
        # The rest is known with the head
        self.status = 0
        self._error: bool
        self._headers: Headers
        self.passed: Passed

    @property
    def is_stream(self) -> bool:
        return self._watch is not None

    @property
    def beginning(self) -> bytes:
        """At the commit: everything that has come so far."""
        return self._held + self._watch.tail if self._watch is not None else self._held

    @property
    def usage(self) -> Usage | None:
        """Tokens of the answer so far, None if nothing can be said."""
        if self._watch is not None:
            return self._watch.usage
        return usage_at_end(self._tail) if self._tail else self._reported_usage

    @property
    def said_all(self) -> bool:
        """The client has the whole stream but for its last chunk: many leave at ``[DONE]``."""
        watch = self._watch
        return self.committed and watch is not None and watch.complete(framed=False) and not self._inbound.paused

    @property
    def due_s(self) -> float:
        """When its patience is over."""
        due_s = self._progress_s + self._patience_s
        if self._life_s > self._progress_s:
            due_s = max(due_s, min(self._life_s + self._patience_s, self._progress_s + self._comments_s))
        if self.committed and self._inbound.paused:  # the client is the slow one
            return max(due_s, self._owner.coarse_now_s + 1.0)
        return due_s

    def be_patient(self, now_s: float, patience_s: float, comments_s: float = 0.0) -> float:
        """Wait for as long from now on. Returns until when."""
        self._progress_s, self._patience_s, self._comments_s = now_s, patience_s, comments_s
        self._life_s = 0.0
        return now_s + patience_s

    def pause(self, paused: bool) -> None:
        """The client cannot keep up (or can again): stop reading from the backend."""
        if self.is_set:
            return
        self._outbound.pause(paused)
        if not paused:
            self._progress_s = self._owner.coarse_now_s

    def abort(self) -> None:
        """Nobody wants the answer any more."""
        self.is_set = True
        self._outbound.abort()

    def give_up(self, detail: str) -> None:
        """The backend was found dead while this request waited for its first token: let another one answer."""
        if not self.committed and not self.is_set:
            self._outbound.abort()
            self.set(AttemptEnd(Outcome.UNREACHABLE, "upstream_unreachable", detail=detail))

    def doubt(self) -> None:
        """The backend is not to be trusted any more: a committed answer that falls silent now ends soon."""
        if self.committed and not self.is_set and self._patience_s > _DOUBTED_SILENCE_S:
            self._patience_s, self._comments_s = _DOUBTED_SILENCE_S, 0.0
            self._owner.shorten(self, max(0.0, self.due_s - self._owner.coarse_now_s))

    def expire(self) -> None:
        """Nothing came in time: no first token, no whole answer, or no further event."""
        if self.is_set:
            return
        self._outbound.abort()
        watch = self._watch
        if self.committed and watch is not None and watch.complete(framed=False):
            self._stream_end(
                watch, framed=False
            )  # an engine that keeps the connection has said everything all the same
        elif self.committed:
            self.set(self._interrupted("sent no token in time"))
        else:
            detail = "gave no first token in time"
            self.set(AttemptEnd(Outcome.FIRST_TOKEN_TIMEOUT, "first_token_timeout", self.status, detail))

    # wire.outbound.Sink

    def on_head(self, status: int, headers: Headers) -> None:
        self.status = status
        self._headers = headers
        self._error = not 200 <= status < 300 or status in ODD_SUCCESSES
        self.passed = passed = headers.meaning or passed_of(headers)
        if passed.form is Form.EVENTS and not self._error and status != 204:
            self._watch = self._new_watch()

    def _new_watch(self) -> StreamWatch:
        ask = self._ask
        return StreamWatch(
            ask.envelope.kind,
            choices=ask.choices,
            prompts=ask.prompts,
            sum_usage=self.pool.sums_usage,
            hides_usage=self._hides_usage,
        )

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        watch = self._watch
        if self._chunks and watch is not None and watch.passes(data):
            # A token on its way: the bytes that came are the bytes that go.
            self.delivered_bytes += len(data)
            self._progress_s = self._owner.coarse_now_s
            self._inbound.write(framed or b"%x\r\n%b\r\n" % (len(data), data))
        elif watch is None:
            self._whole(data)
        elif not self.committed:
            self._stream_begin(watch, data)
        else:
            events = watch.events
            out = watch.feed(data)
            if out:
                self._write(out)
            if watch.error is not None:
                self._in_band_error(watch)
            elif watch.done:
                self._all_said(watch)
            elif watch.events != events:
                self._progress_s = self._owner.coarse_now_s
            elif out:
                self._life_s = self._owner.coarse_now_s

    def on_end(self, *, framed: bool) -> None:
        if self._watch is not None:
            self._stream_end(self._watch, framed=framed)
        elif self._error:
            self.set(end_of_answer(self.status, self._headers, self._held[:_ERROR_BODY_BYTES]))
        else:
            self._whole_end(framed=framed)

    def on_fail(self, reason: str, *, answered: bool) -> None:
        watch = self._watch
        if self.committed and watch is not None and watch.complete(framed=False):
            self._stream_end(watch, framed=False)  # everything was said; only the last chunk is missing
        elif self.committed:
            self.set(self._interrupted("broke the connection"))
        elif reason == "protocol":
            # What was read may be the rest of what the last request on this connection was sent.
            stale = self._outbound.served > 0 and not self.status
            detail = "did not answer in HTTP"
            self.set(AttemptEnd(Outcome.SERVER_ERROR, "upstream_protocol", detail=detail, stale=stale))
        else:
            stale = self._outbound.served > 0 and not answered
            detail = "closed the connection before it answered"
            self.set(
                AttemptEnd(Outcome.UNREACHABLE, "upstream_unreachable", detail=detail, stale=stale, died=not stale)
            )

    # streams

    def _stream_begin(self, watch: StreamWatch, data: bytes) -> None:
        """Up to the first content token everything is held back."""
        events = watch.events
        out = watch.feed(data)
        if watch.events != events:
            self._progress_s = self._owner.coarse_now_s
        if watch.error is None or watch.started:
            self._held += out
            if watch.started or len(self._held) + watch.held_bytes > self._hold_bytes(HOLD_STREAM_BYTES):
                self._commit(None)
        if watch.error is not None:
            self._in_band_error(watch)
        elif watch.done:
            self._all_said(watch)

    def _all_said(self, watch: StreamWatch) -> None:
        """The engine says that its answer is over. What becomes of the connection does not matter any more."""
        if self._ending:
            return
        self._ending = True
        if watch.complete(framed=True):
            self._owner.shorten(self, _DONE_GRACE_S)
        else:
            self._outbound.abort()
            self._stream_end(watch, framed=True)

    def _in_band_error(self, watch: StreamWatch) -> None:
        """Engines report their own death, a full queue or a bad request inside a 200 stream."""
        self._outbound.abort()
        if self.committed:
            self.set(self._interrupted("reported an error of its engine"))
            return
        self.set(end_in_band(watch.error or {}))

    def _stream_end(self, watch: StreamWatch, *, framed: bool) -> None:
        rest = watch.flush()
        if watch.complete(framed=framed):
            if not self.committed:
                self._held += rest
                self._commit(None)
            elif rest:
                self._write(rest)
            self._write_end()
            self.set(DELIVERED)
        elif self.committed:
            self.set(self._interrupted("ended the stream early"))
        elif watch.error is not None:
            self._in_band_error(watch)
        else:
            self.set(AttemptEnd(Outcome.SERVER_ERROR, "upstream_error", detail="ended the stream without a token"))

    def _hold_bytes(self, least: int) -> int:
        """How much may come before what the client waits for."""
        return min(least + _REPEATED_TIMES * len(self._x.request.body), HOLD_BYTES_MAX)

    # whole answers

    def _whole(self, data: bytes) -> None:
        if self.committed:
            self._progress_s = self._owner.coarse_now_s
            self._tail = (self._tail + data)[-_USAGE_TAIL_BYTES:]
            self._write(data)
        elif not self._error:
            self._held = self._held + data if self._held else data
            if self.passed.form is not Form.JSON or self._ask.stream:
                self._begin_early()
            elif len(self._held) > HOLD_WHOLE_BYTES:
                self._commit_unread()
        elif len(self._held) < _ERROR_BODY_BYTES:
            self._held += data

    def _begin_early(self) -> None:
        """Pass on an answer as it comes that is not a stream of events, or does not say so."""
        begin, promised = self._held, self._ask.envelope.path in whole.PROMISED
        first = first_of(self.passed.form, begin, streams=self._ask.stream, promised=promised)
        if first is First.PASS:
            self._commit(None)
        elif first is First.EVENTS:
            self._begin_events()
        elif not isinstance(first, First):
            self._outbound.abort()
            self.set(end_in_band(first))
        elif len(begin) > HOLD_WHOLE_BYTES:
            self._commit_unread()

    def _begin_events(self) -> StreamWatch:
        """What is held is the beginning of a stream of events."""
        begin, self._held = self._held, b""
        self._watch = watch = self._new_watch()
        self._stream_begin(watch, begin)
        return watch

    def _commit_unread(self) -> None:
        """Too long to be held to its end."""
        if whole.looks_good(self._ask.envelope.path, self._held) and not whole.is_page(self._held):
            self._commit(None)
        elif len(self._held) > self._hold_bytes(4 * HOLD_WHOLE_BYTES) or whole.is_page(self._held):
            self._outbound.abort()
            self.set(no_answer(self.status, "gave an answer that is not what was asked for"))

    def _whole_end(self, *, framed: bool) -> None:
        if self.committed:
            if not framed and self._chunks:
                self.set(self._interrupted("cut the answer"))
            else:
                self._write_end()
                self.set(DELIVERED)
            return
        if self._ask.stream and begins_a_stream(self._held):
            watch = self._begin_events()
            if not self.is_set:
                self._stream_end(watch, framed=framed)
            return
        path, form = self._ask.envelope.path, self.passed.form
        end, self._reported_usage = end_of_whole(path, self.status, form, self._held, framed=framed)
        if end is DELIVERED:
            self._commit(len(self._held))
        self.set(end)

    # writing

    def _commit(self, length: int | None) -> None:
        self.committed = True
        head = self._owner.commit(self._x, self, length)
        body = self._held
        self.delivered_bytes += len(body)
        if length is not None:
            self._inbound.write(head + body)
            return
        self._held = b""
        if self._watch is None:
            self._tail = body[-_USAGE_TAIL_BYTES:]
        self._chunks = self._x.request.head.http11
        if body and self._chunks:
            self._inbound.write(b"%b%x\r\n%b\r\n" % (head, len(body), body))
        else:
            self._inbound.write(head + body)
        if self._inbound.paused:
            self.pause(True)

    def _write(self, data: bytes) -> None:
        self.delivered_bytes += len(data)
        if self._chunks:
            self._inbound.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._inbound.write(data)

    def _write_end(self) -> None:
        if self._chunks:
            self._inbound.write(_LAST_CHUNK)

    def write_in_band(self, event: bytes) -> None:
        """The error event that ends a broken stream; the caller aborts the connection after it."""
        self._write(event)

    def _interrupted(self, detail: str) -> AttemptEnd:
        return AttemptEnd(Outcome.TRUNCATED, "stream_interrupted", self.status, detail)
