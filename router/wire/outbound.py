"""A connection to a backend: one request out, its answer in, and again while both sides keep it alive.

The backend is not trusted: its head is bounded, doubtful framing ends the connection, and a connection on which
anything unexpected happened is never used again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol, cast

import httptools

from router.wire.head import HEAD_END, AnswerHead, AnswerHeads, Framing, HeadError, Headers, answer_may_begin_with

__all__ = ["HEAD_LIMIT_BYTES", "Headers", "Outbound", "Sink"]

HEAD_LIMIT_BYTES = 64 * 1024
INTERIM_LIMIT = 16  # 1xx answers before the real one

#: An answer that comes in larger reads is read in sips of this size: uvloop reads 256 KB at once, and each connection
#: that stops reading would hold as much.
SIP_BYTES = 32 * 1024

_CHUNKED, _CLOSE, _LENGTH = Framing.CHUNKED, Framing.CLOSE, Framing.LENGTH
_CRLF = b"\r\n"
_RAW_HEAD_MAX = HEAD_LIMIT_BYTES - len(HEAD_END)
#: By the length of a whole chunk of usual size: the line that must stand before its data.
_SIZE_LINES = {len(b"%x" % size) + 2 + size + 2: b"%x\r\n" % size for size in range(1, 4096)}
#: Makes httptools expect a chunked body; the real head was read already.
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


#: The pieces that a request is sent in.
Piece = bytes | bytearray | memoryview


class Sink(Protocol):
    """Reads the answer. After ``on_end`` or ``on_fail`` nothing more comes."""

    def on_head(self, status: int, headers: Headers) -> None: ...

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        """``framed``: the bytes as they came, if ``data`` was exactly one plain chunk."""

    def on_end(self, *, framed: bool) -> None:
        """The answer is whole by its own framing; ``framed`` is false if only the end of the connection says so."""

    def on_fail(self, reason: str, *, answered: bool) -> None:
        """The connection broke (``lost``) or made no sense (``protocol``). ``answered``: some byte had come."""


class Outbound(asyncio.Protocol):
    """One connection. ``sink`` is set while a request is in flight; ``served`` counts the answers completed."""

    __slots__ = (
        "_between",
        "_buffer",
        "_complete",
        "_head",
        "_heads",
        "_interim",
        "_missing_bytes",
        "_on_idle",
        "_on_lost",
        "_parser",
        "_parsing",
        "_paused",
        "_pieces",
        "_sipping",
        "_unsound",
        "answered",
        "idle_since_s",
        "served",
        "shelf",
        "sink",
        "transport",
        "until_s",
        "usable",
    )

    def __init__(
        self,
        on_idle: Callable[[Outbound], None],
        on_lost: Callable[[Outbound], None],
        heads: AnswerHeads | None = None,
    ) -> None:
        """``heads`` is shared by all connections to a backend."""
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._heads = heads or AnswerHeads()
        self.transport: asyncio.Transport
        self.sink: Sink | None = None
        self.served = 0
        self.usable = True
        self.answered = False
        self.idle_since_s = 0.0
        self.shelf: Any = None  # where its pool keeps it while it is idle
        self.until_s = 0.0  # when its pool takes it out of use
        self._head: AnswerHead | None = None  # of the answer in progress
        self._buffer = b""  # a head that is incomplete
        self._interim = 0
        self._missing_bytes = 0
        # Chunks are undone by httptools, which calls on_body and on_message_complete. A read that is one plain chunk
        # needs no parser, as long as we stand between two chunks; many an answer never asks it before its end.
        self._between = False
        self._parsing = False
        self._parser: httptools.HttpResponseParser | None = None
        self._pieces: list[bytes] = []
        self._complete = False
        self._paused = False
        self._sipping = False
        self._unsound = False  # the backend said something that makes no sense

    # the sender's side

    def send(self, pieces: tuple[Piece, ...], sink: Sink) -> None:
        """Send a request, in one or several pieces. Raises ConnectionResetError when the connection is closed already:
        it may be, between being made and being used."""
        if not self.usable:
            raise ConnectionResetError("closed before it was used")
        self.sink = sink
        self.answered = False
        if len(pieces) == 1:
            self.transport.write(pieces[0])
        else:
            self.transport.writelines(pieces)

    def pause(self, paused: bool) -> None:
        """Stop reading the answer, or go on. The next answer on this connection is read in any case."""
        if self.sink is not None and paused is not self._paused:
            self._paused = paused
            (self.transport.pause_reading if paused else self.transport.resume_reading)()

    def abort(self) -> None:
        """Give up the answer in flight at once; the backend sees the connection close."""
        self.sink = None
        self.usable = False
        self.transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def disown(self) -> None:
        """Nobody waits for this connection to be made any more. uvloop then closes the transport without telling us,
        and keeps what the transport knows: the two would be a reference cycle."""
        self.usable = False
        with contextlib.suppress(AttributeError):  # it was not made yet
            del self.transport

    def data_received(self, data: bytes) -> None:
        """Hand on what one read brought, in order. Each call of the sink may end the request."""
        sink = self.sink
        if self._between and sink is not None:
            # What engines send: a token, a chunk, a read.
            line = _SIZE_LINES.get(len(data))
            if line is not None and data.startswith(line) and data.endswith(_CRLF):
                sink.on_body(data[len(line) : -2], data)
                return
        head = self._head
        if len(data) > SIP_BYTES and not self._sipping:
            self._sip()
        if sink is None:
            self.abort()  # an answer nobody asked for
        elif head is None:
            self._read_head(sink, data)
        elif head.framing is _CHUNKED:
            self._read_chunks(sink, data)
        else:
            self._read_body(sink, head, data)

    def _sip(self) -> None:
        self._sipping = True
        transport = self.transport
        if not transport.is_closing():
            transport.pause_reading()  # the transport looks at its protocol when it begins to read
            transport.set_protocol(_Sipping(self))
            if not self._paused:
                transport.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._parser = None
        self._on_lost(self)
        sink, self.sink = self.sink, None
        if sink is None:
            return
        if exc is None and self._head is not None and self._head.framing is _CLOSE:
            sink.on_end(framed=False)
        else:
            sink.on_fail("lost", answered=self.answered)

    # reading

    def _read_head(self, sink: Sink, data: bytes) -> None:
        self.answered = True
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        raw, end, rest = data.partition(HEAD_END)
        if not end:
            self._buffer = data
            if len(data) > HEAD_LIMIT_BYTES or not answer_may_begin_with(data):
                self._fail(sink)
            return
        try:
            if len(raw) > _RAW_HEAD_MAX:
                raise HeadError("too large")
            head, length = self._heads.read(raw + end)
        except HeadError:
            self._fail(sink)
            return
        if head.status < 200:
            self._interim += 1
            if head.status == 101 or self._interim > INTERIM_LIMIT:
                self._fail(sink)
            elif rest:
                self._read_head(sink, rest)
            return
        self._head = head
        sink.on_head(head.status, head.headers)
        if self.sink is not sink:
            return
        if head.framing is not _CHUNKED:
            self._missing_bytes = length if head.framing is _LENGTH else 0
            self._read_body(sink, head, rest)
            return
        self._between = True
        if rest:
            self.data_received(rest)

    def _read_body(self, sink: Sink, head: AnswerHead, data: bytes) -> None:
        if head.framing is _CLOSE:
            if data:
                sink.on_body(data)
            return
        missing = self._missing_bytes - len(data)
        self._missing_bytes = missing
        if missing < 0:
            self._unsound = True  # more than one answer
            data = data[:missing]
        if data:
            sink.on_body(data)
        if missing <= 0 and self.sink is sink:
            self._finish(sink, head)

    def _read_chunks(self, sink: Sink, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        try:
            if not self._parsing:
                self._parsing, self._complete = True, False
                self._parser.feed_data(_CHUNKED_HEAD)
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._unsound = True
        pieces = self._pieces
        if pieces:
            last = pieces[-1]
            # A part of a chunk cannot end like this: no size line contains the end of a line.
            self._between = data.endswith(b"%x\r\n%b\r\n" % (len(last), last))
            body = last if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            sink.on_body(body)
        else:
            self._between = False
        if self._complete:
            if self.sink is sink and self._head is not None:
                self._finish(sink, self._head)
        elif self._unsound and self.sink is sink:
            self._fail(sink)

    def _finish(self, sink: Sink, head: AnswerHead) -> None:
        if self._paused:
            self.pause(False)
        self.sink = None
        self._head = None
        self._between = self._parsing = False
        self._interim = 0
        self.served += 1
        # If the answer came before the request was sent, the backend may take the rest of it for another request.
        if head.keep_alive and self.usable and not self._unsound and not self.transport.get_write_buffer_size():
            self._on_idle(self)
        else:
            self.usable = False
            self.transport.close()
        sink.on_end(framed=True)

    def _fail(self, sink: Sink) -> None:
        self.abort()
        sink.on_fail("protocol", answered=True)

    # httptools' side

    def on_message_begin(self) -> None:
        if self._complete:
            self._unsound = True  # more than one answer

    def on_body(self, data: bytes) -> None:
        if not self._complete:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        self._complete = True


class _Sipping(asyncio.BufferedProtocol):
    """Reads for an Outbound into one small buffer that all share: it is emptied before anybody else can read."""

    _buffer = memoryview(bytearray(SIP_BYTES))

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self.connection_lost = outbound.connection_lost  # type: ignore[method-assign]
        self.eof_received = outbound.eof_received  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._outbound.data_received(bytes(self._buffer[:nbytes]))
