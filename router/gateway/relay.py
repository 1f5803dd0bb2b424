"""The backend's half of a request: what one attempt is answered, on its way into the client's answer.

A relay holds what the backend says until the first content token (or a whole short answer), so that every failure up
to then can be hidden by another attempt. From the commit on, bytes go on as they come, one write per read; nothing
wakes a task, nothing parses JSON. The relay is the signal of its own end: whoever awaits it gets the AttemptEnd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from router import clock
from router.core import whole
from router.core.forms import First, Form, first_of
from router.core.framing import begins_a_stream
from router.core.outcomes import Outcome
from router.core.sse import StreamWatch
from router.core.transcript import last_event
from router.core.types import Usage
from router.core.usage import usage_at_end
from router.gateway.leash import Sender
from router.gateway.responses import Passed, passed_of
from router.gateway.stream_tally import StreamTally
from router.upstream.answers import end_of_whole, no_answer
from router.upstream.classify import DELIVERED, ODD_SUCCESSES, AttemptEnd, end_in_band, end_of_answer

if TYPE_CHECKING:
    from router.core.seam import Seam
    from router.gateway.answer import Answer
    from router.gateway.deadlines import Deadlines
    from router.gateway.ingress import Ask
    from router.upstream.pool import Pool
    from router.wire.head import Headers
    from router.wire.outbound import Outbound

#: How much of an answer is held back before it is passed on uncommitted, in bytes.
HOLD_STREAM_BYTES = 64 * 1024
HOLD_WHOLE_BYTES = 256 * 1024
#: Responses repeat the instructions and tools of the request before they say anything: then more is held.
_REPEATED_TIMES = 3
HOLD_BYTES_MAX = 4 * 1024 * 1024
#: A usage object stands at the end of a long answer.
_USAGE_TAIL_BYTES = 4096
_ERROR_BODY_BYTES = 64 * 1024
#: An engine that has said everything has this long to end its answer, in seconds; then the router ends it.
_DONE_GRACE_S = 0.25

W = TypeVar("W")


class Relay(StreamTally[W]):
    """Reads what a backend answers (a wire.outbound.Sink) and passes it on into ``answer``, once it is good.

    ``seam``: another backend began the answer, and this one continues it.
    """

    __slots__ = (
        "_ask",
        "_asked_bytes",
        "_chunks",
        "_ending",
        "_error",
        "_headers",
        "_held",
        "_hides_usage",
        "_reported_usage",
        "_tail",
        "passed",
        "pool",
        "seam",
    )

    # known with the head
    _error: bool
    _headers: Headers
    passed: Passed

    def __init__(
        self,
        sender: Sender[W],
        whose: W,
        ask: Ask,
        answer: Answer,
        pool: Pool,
        outbound: Outbound,
        deadlines: Deadlines,
        began_s: float,
        patience_s: float,
        *,
        asked_bytes: int,
        hides_usage: bool,
        seam: Seam | None = None,
    ) -> None:
        self.is_set = False
        self._flow = None
        self._sender = sender
        self._whose = whose
        self._ask = ask
        self._answer = answer
        self._inbound = answer.inbound
        self._deadlines = deadlines
        self._asked_bytes = asked_bytes
        self._hides_usage = hides_usage
        self.pool = pool
        self._outbound = outbound
        self._progress_s, self._patience_s = began_s, patience_s
        self._life_s = self._comments_s = 0.0
        self._ending = False  # everything was said; only the end of the answer is waited for
        self._watch = None
        self._reported_usage: Usage | None = None  # of a whole answer that was held
        self._held = self._tail = b""
        self._chunks = False  # the client is being answered in chunks
        self.committed = False
        self.seam = seam
        self.transcript = self.guard = None
        self._full_events = self.status = 0
        self.head_s = None

    @property
    def is_stream(self) -> bool:
        return self._watch is not None

    @property
    def beginning(self) -> bytes:
        """At the commit: everything that has come so far."""
        return self._held + self._watch.tail if self._watch is not None else self._held

    @property
    def usage(self) -> Usage | None:
        """Tokens of this leg of the answer so far, None if nothing can be said."""
        if self._watch is not None:
            return self._watch.usage
        return usage_at_end(self._tail) if self._tail else self._reported_usage

    @property
    def events(self) -> int:
        """Events with content that the client got from this backend."""
        return self._watch.events if self.committed and self._watch is not None else 0

    @property
    def between_events(self) -> bool:
        """The client has no part of an event."""
        return self._watch is None or not self._watch.in_event

    @property
    def said_all(self) -> bool:
        """The client has the whole stream but for its last chunk: many leave at ``[DONE]``."""
        watch = self._watch
        return self.committed and watch is not None and watch.complete(framed=False) and not self._inbound.paused

    def expire(self) -> None:
        """Nothing came in time: no first token, no whole answer, or no further event."""
        if self.is_set:
            return
        self._outbound.abort()
        watch = self._watch
        if self.committed and watch is not None and watch.complete(framed=False):
            # An engine that keeps the connection has said everything all the same.
            self._stream_end(watch, framed=False)
        elif self.committed:
            self.set(self._interrupted("sent no token in time"))
        else:
            detail = "gave no first token in time"
            self.set(AttemptEnd(Outcome.FIRST_TOKEN_TIMEOUT, "first_token_timeout", self.status, detail))

    # wire.outbound.Sink

    def on_head(self, status: int, headers: Headers) -> None:
        self.status, self.head_s = status, clock.monotonic_s()
        self._headers = headers
        self._error = status != 200 and (not 200 <= status < 300 or status in ODD_SUCCESSES)
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
            self._keep(data)
            self._progress_s = self._deadlines.coarse_now_s
            self._inbound.write(framed or b"%x\r\n%b\r\n" % (len(data), data))
            if watch.events >= self._full_events:
                self._tally_up()
        elif watch is None:
            self._whole(data)
        elif not self.committed:
            self._stream_begin(watch, data)
        else:
            events = watch.events
            out = watch.feed(data)
            if out:
                self._pass_on(out)
            if self.is_set:  # at a stop string across the seam, or in a loop
                return
            if watch.error is not None:
                self._in_band_error(watch)
            elif watch.done:
                self._all_said(watch)
            elif watch.events != events:
                self._progress_s = self._deadlines.coarse_now_s
            elif out:
                self._life_s = self._deadlines.coarse_now_s

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
            self.set(self._interrupted("broke the connection", died=reason == "lost"))
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
            self._progress_s = self._deadlines.coarse_now_s
        if watch.error is None or watch.started:
            self._held += out
            if watch.started or len(self._held) + watch.held_bytes > self._hold_bytes(HOLD_STREAM_BYTES):
                self._commit(None)
        if self.is_set:
            return
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
            self._shorten(_DONE_GRACE_S)
        else:
            self._outbound.abort()
            self._stream_end(watch, framed=True)

    def _in_band_error(self, watch: StreamWatch) -> None:
        """Engines report their own death, a full queue or a bad request inside a 200 stream."""
        self._outbound.abort()
        end = end_in_band(watch.error or {})
        if self.committed:
            refused = end.outcome is Outcome.CLIENT_ERROR
            end = self._interrupted("reported an error of its engine", died=end.died, refused=refused)
        self.set(end)

    def _stream_end(self, watch: StreamWatch, *, framed: bool) -> None:
        rest = watch.flush() if self.transcript is None else last_event(watch.flush())
        if watch.complete(framed=framed):
            if not self.committed:
                self._held += rest
                self._commit(None)
            else:
                self._pass_on(rest)
                if not watch.done and self.transcript is not None and not self.is_set:
                    self._sender.end_mark(self._whose, self, framed=framed)
            if not self.is_set:
                self._answer.end()
                self.set(DELIVERED)
        elif self.committed:
            self.set(self._interrupted("ended the stream early"))
        elif watch.error is not None:
            self._in_band_error(watch)
        else:
            self.set(AttemptEnd(Outcome.SERVER_ERROR, "upstream_error", detail="ended the stream without a token"))

    def _hold_bytes(self, least: int) -> int:
        """How much may come before what the client waits for."""
        return min(least + _REPEATED_TIMES * self._asked_bytes, HOLD_BYTES_MAX)

    # whole answers

    def _whole(self, data: bytes) -> None:
        if self.committed:
            self._progress_s = self._deadlines.coarse_now_s
            self._tail = (self._tail + data)[-_USAGE_TAIL_BYTES:]
            self._answer.write(data)
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
                self._answer.end()
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

    # into the answer

    def _commit(self, length: int | None) -> None:
        if self._watch is None and (self.seam is not None or self._answer.opened):
            self._outbound.abort()
            self.set(no_answer(self.status, "did not answer with a stream"))
            return
        if self.seam is not None:
            self._go_on()
            return
        self.committed = True
        answer, body = self._answer, self._held
        head = self._sender.begin(self._whose, self, length)
        answer.begin(head, body, events=self._watch is not None)
        if length is not None:
            return
        if self.transcript is not None:
            self.transcript.add(body)
        self._begin_tally()
        self._held = b""
        self._chunks = answer.chunked
        if self._watch is None:
            self._tail = body[-_USAGE_TAIL_BYTES:]
        if self._inbound.paused:
            self.pause(True)

    # into the answer of another

    def _go_on(self) -> None:
        """The client has a part of the answer already, from another backend."""
        self.committed = True
        self._begin_tally()
        self._sender.go_on(self._whose, self)
        held, self._held = self._held, b""
        if self._inbound.paused:
            self.pause(True)
        self._pass_on(held)

    def _pass_on(self, data: bytes) -> None:
        """Whole events on their way."""
        watch, seam = self._watch, self.seam
        assert watch is not None
        if seam is not None:
            data = seam.take(data)
        if data:
            self._keep(data)
            self._answer.pass_on(data)
            if watch.events >= self._full_events:
                self._tally_up()
        if seam is not None and seam.over and not self.is_set:
            self._outbound.abort()
            self._answer.end()
            self.set(DELIVERED)

    def _interrupted(self, detail: str, *, died: bool = False, refused: bool = False) -> AttemptEnd:
        return AttemptEnd(Outcome.TRUNCATED, "stream_interrupted", self.status, detail, died=died, refused=refused)
