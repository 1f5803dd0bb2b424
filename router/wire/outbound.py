"""A connection to a backend: one request out, its answer in, and again while both sides keep it alive.

The backend is not trusted: its head is bounded, doubtful framing ends the connection, and a connection on which
anything unexpected happened is never used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

HEAD_LIMIT_BYTES = 64 * 1024
INTERIM_LIMIT = 16  # 1xx answers before the real one

Headers = list[tuple[bytes, bytes]]


class Sink(Protocol):
    """Who reads the answer. After ``on_end`` or ``on_fail`` nothing more comes."""

    def on_head(self, status: int, headers: Headers) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def on_end(self, *, framed: bool) -> None:
        """The answer is whole by its own framing; ``framed`` is false if only the end of the connection says so."""

    def on_fail(self, reason: str, *, answered: bool) -> None:
        """The connection broke (``lost``) or made no sense (``protocol``). ``answered``: some byte had come."""


class Outbound(asyncio.Protocol):
    """One connection. ``sink`` is set while a request is in flight; ``served`` counts the answers completed."""

    __slots__ = (
        "_complete",
        "_framing",
        "_head_bytes",
        "_head_ready",
        "_headers",
        "_interim",
        "_keep_alive",
        "_on_idle",
        "_on_lost",
        "_parser",
        "_pieces",
        "_problem",
        "answered",
        "idle_since_s",
        "served",
        "sink",
        "status",
        "transport",
        "usable",
    )

    def __init__(self, on_idle: Callable[[Outbound], None], on_lost: Callable[[Outbound], None]) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport
        self.sink: Sink | None = None
        self.status = 0
        self.served = 0
        self.usable = True
        self.answered = False
        self.idle_since_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._headers: Headers = []
        self._pieces: list[bytes] = []
        self._head_ready = False
        self._head_bytes = 0
        self._interim = 0
        self._complete = False
        self._keep_alive = False
        self._framing = "none"
        self._problem: str | None = None

    # the sender's side

    def send(self, data: bytes, sink: Sink) -> None:
        self.sink = sink
        self.answered = False
        self.transport.write(data)

    def abort(self) -> None:
        """Give up the answer in flight at once; the backend sees the connection close."""
        self.sink = None
        self.usable = False
        self.transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.sink is None:
            self.abort()  # an answer nobody asked for
            return
        self.answered = True
        if not self.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._problem = self._problem or "malformed answer"
        self._deliver()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._on_lost(self)
        sink, self.sink = self.sink, None
        if sink is None:
            return
        if exc is None and self.status and self._framing == "close":
            sink.on_end(framed=False)
        else:
            sink.on_fail("lost", answered=self.answered)

    def _deliver(self) -> None:
        """Hand on what one read brought, in order. Each call may end the request."""
        sink = self.sink
        assert sink is not None
        if self._framing == "bad":
            self.abort()
            sink.on_fail("protocol", answered=True)
            return
        if self._head_ready:
            self._head_ready = False
            sink.on_head(self.status, self._headers)
        elif not self.status and self._head_bytes > HEAD_LIMIT_BYTES:
            self._problem = self._problem or "endless head"
        if self._pieces and self.sink is sink:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            sink.on_body(data)
        if self.sink is not sink:
            return
        if self._problem is not None and not self._complete:
            self.abort()
            sink.on_fail("protocol", answered=True)
        elif self._complete:
            self._finish(sink)

    def _finish(self, sink: Sink) -> None:
        self.sink = None
        self.served += 1
        keep = self.usable and self._problem is None and self._keep_alive
        self.status = 0
        self._reset()
        if keep:
            self._on_idle(self)
        else:
            self.usable = False
            self.transport.close()
        sink.on_end(framed=True)

    # httptools' side

    def on_message_begin(self) -> None:
        if self._complete:
            self._problem = "more than one answer"

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._complete and not self.status:  # trailers come here too, and are dropped
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim += 1
            self._headers = []
            if status == 101 or self._interim > INTERIM_LIMIT:
                self._problem = "unexpected interim answer"
            return
        self.status = status
        self._head_ready = True
        self._framing = self._framing_of(status)

    def _framing_of(self, status: int) -> str:
        lengths = [value for name, value in self._headers if name == b"content-length"]
        encodings = [value.lower() for name, value in self._headers if name == b"transfer-encoding"]
        if status in (204, 304):
            return "none"
        if encodings:
            framing = "chunked" if encodings == [b"chunked"] and not lengths else "bad"
        elif lengths:
            framing = "length" if len(lengths) == 1 and lengths[0].isdigit() else "bad"
        else:
            framing = "close"
        if framing == "bad":
            self._problem = "ambiguous framing"
        return framing

    def on_body(self, data: bytes) -> None:
        if not self._complete:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self.status:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()  # to be asked here: llhttp forgets it at once
