"""A client's connection: strict requests in, answers out, one at a time and in the order they were asked.

The head is checked as a whole before httptools reads it, and the body is cut by exact count, so what follows a
request is the next request and nothing else. Every wait has an absolute limit, kept by ``Gate.sweep``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import httptools

from router.wire.chunked import ChunkedDecoder, ChunkedError
from router.wire.head import content_length, head_problem, host_ok

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type", b"expect"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may cost."""

    head_bytes: int = 32 * 1024
    headers: int = 100
    body_bytes: int = 32 * 1024 * 1024
    buffered_bytes: int = 512 * 1024 * 1024  # bodies of all connections together
    connections: int = 20_000
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    linger_timeout_s: float = 2.0
    write_stall_s: float = 60.0
    write_high_bytes: int = 64 * 1024
    pipelined_bytes: int = 64 * 1024


@dataclass(slots=True)
class InboundRequest:
    """A request as it arrived. Header names are in lower case; repeated headers are joined with a comma."""

    method: bytes
    target: bytes
    http11: bool
    headers: dict[bytes, bytes]
    keep_alive: bool
    body: bytes = b""


class Handler(Protocol):
    """Who answers. ``begin`` must lead to exactly one ``Inbound.finish`` or ``Inbound.abort``, or to ``lost``."""

    def begin(self, connection: Inbound, request: InboundRequest) -> None: ...

    def refuse(self, connection: Inbound, code: str, detail: str) -> None:
        """Write an error for a request that cannot be read; the connection closes after it."""

    def lost(self, connection: Inbound) -> None:
        """The client left while its request was being answered."""

    def writable(self, connection: Inbound, ready: bool) -> None:
        """The client reads too slowly (false), or reads again (true)."""


@dataclass(slots=True)
class Gate:
    """What all connections of a listener share: limits, and who is waiting since when (oldest first)."""

    limits: Limits
    now_s: Any  # () -> float
    connections: set[Inbound] = field(default_factory=set)
    buffered_bytes: int = 0
    closing: bool = False  # answers carry connection: close
    heads: dict[Inbound, float] = field(default_factory=dict)
    bodies: dict[Inbound, float] = field(default_factory=dict)
    idle: dict[Inbound, float] = field(default_factory=dict)
    lingering: dict[Inbound, float] = field(default_factory=dict)
    stalled: dict[Inbound, float] = field(default_factory=dict)

    def sweep(self) -> None:
        """Enforce the absolute limits. Call it a few times a second."""
        now_s, limits = self.now_s(), self.limits
        for waiting, timeout_s, act in (
            (self.heads, limits.head_timeout_s, Inbound.head_expired),
            (self.bodies, limits.body_timeout_s, Inbound.body_expired),
            (self.idle, limits.idle_timeout_s, Inbound.close),
            (self.lingering, limits.linger_timeout_s, Inbound.abort),
            (self.stalled, limits.write_stall_s, Inbound.abort),
        ):
            while waiting:
                connection, since_s = next(iter(waiting.items()))
                if now_s - since_s < timeout_s:
                    break
                del waiting[connection]
                act(connection)

    def close_idle(self) -> None:
        """Close every connection that has no request in progress."""
        for connection in list(self.idle):
            connection.close()

    def forget(self, connection: Inbound) -> None:
        self.connections.discard(connection)
        for waiting in (self.heads, self.bodies, self.idle, self.lingering, self.stalled):
            waiting.pop(connection, None)


class Inbound(asyncio.Protocol):
    """One client connection. ``exchange`` is whatever the handler hangs on it while a request is being answered."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_buffer",
        "_chunked",
        "_counted_bytes",
        "_discarding",
        "_gate",
        "_handler",
        "_headers",
        "_headers_count",
        "_parser",
        "_pending",
        "_pumping",
        "_reading_paused",
        "_repeated",
        "_url",
        "busy",
        "exchange",
        "paused",
        "peer",
        "transport",
    )

    def __init__(self, gate: Gate, handler: Handler) -> None:
        self._gate = gate
        self._handler = handler
        self.transport: asyncio.Transport
        self.peer: str | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._buffer = b""
        self._headers: dict[bytes, bytes] = {}
        self._headers_count = 0
        self._repeated = False
        self._url = b""
        self._pending: InboundRequest | None = None  # its body is still arriving
        self._body: list[bytes] = []
        self._body_bytes = 0  # still to come
        self._counted_bytes = 0  # in the gate's budget
        self._chunked: ChunkedDecoder | None = None
        self._pumping = False
        self._discarding = False
        self._reading_paused = False
        self.busy = False
        self.paused = False
        self.exchange: Any = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        gate = self._gate
        if len(gate.connections) >= gate.limits.connections:
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=gate.limits.write_high_bytes)
        gate.connections.add(self)
        gate.heads[self] = gate.now_s()

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self.busy:
            if len(self._buffer) > self._gate.limits.pipelined_bytes and not self._reading_paused:
                self._reading_paused = True
                self.transport.pause_reading()
            return
        self._pump()

    def eof_received(self) -> bool:
        return False  # a half-closed client has left: nobody could tell it from one that is gone

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.forget(self)
        self._release_body()
        self._discarding = True
        self._buffer = b""
        if self.busy:
            self._handler.lost(self)

    def pause_writing(self) -> None:
        self.paused = True
        self._gate.stalled[self] = self._gate.now_s()
        self._handler.writable(self, False)

    def resume_writing(self) -> None:
        self.paused = False
        self._gate.stalled.pop(self, None)
        self._handler.writable(self, True)

    # the handler's side

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def finish(self, keep_alive: bool) -> None:
        """The answer is complete: go on with the next request, or close once everything is written."""
        self.busy = False
        self.exchange = None
        self._release_body()
        if not keep_alive or self._gate.closing:
            self.close()
            return
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        if self._pumping:
            return
        if self._buffer:
            self._pump()
        else:
            self._gate.idle[self] = self._gate.now_s()

    def close(self) -> None:
        self._discarding = True
        self.transport.close()

    def abort(self) -> None:
        self._discarding = True
        self.transport.abort()

    def linger(self) -> None:
        """Close after an early answer: read on for a moment so that a reset does not overtake the answer."""
        self._discarding = True
        self._buffer = b""
        self._gate.heads.pop(self, None)
        self._gate.bodies.pop(self, None)
        self._gate.lingering[self] = self._gate.now_s()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def head_expired(self) -> None:
        if self._buffer:
            self._refuse("request_timeout", "The head of the request did not arrive in time.")
        else:
            self.close()

    def body_expired(self) -> None:
        self._refuse("request_timeout", "The body of the request did not arrive in time.")

    # reading

    def _refuse(self, code: str, detail: str) -> None:
        self._pending = None
        self._release_body()
        self._handler.refuse(self, code, detail)
        self.linger()

    def _pump(self) -> None:
        """Read requests off the buffer until one is being answered or more bytes are needed."""
        self._gate.idle.pop(self, None)
        self._pumping = True
        try:
            while self._buffer and not self.busy and not self._discarding:
                if not (self._read_head() if self._pending is None else self._read_body()):
                    break
        finally:
            self._pumping = False
        if self.busy or self._discarding:
            return
        gate = self._gate
        if self._pending is not None:
            gate.bodies.setdefault(self, gate.now_s())
        elif self._buffer:
            gate.heads.setdefault(self, gate.now_s())
        else:
            gate.idle[self] = gate.now_s()

    def _read_head(self) -> bool:
        data = self._buffer
        if data[0] in b"\r\n":  # one empty line before a request is allowed (RFC 9112 2.2)
            if not data.startswith(b"\r\n"):
                if data != b"\r":
                    self._refuse("invalid_request", "Malformed request line.")
                return False
            data = self._buffer = data[2:]
            if not data:
                return False
        end = data.find(b"\r\n\r\n") + 4
        limits = self._gate.limits
        if end < 4 or end > limits.head_bytes:
            if len(data) > limits.head_bytes:
                self._refuse("headers_too_large", f"The head is larger than {limits.head_bytes} bytes.")
            elif b"\n\n" in data or b"\0" in data:
                self._refuse("invalid_request", "Malformed head.")
            return False
        head, self._buffer = data[:end], data[end:]
        self._gate.heads.pop(self, None)
        problem = head_problem(head)
        if problem is not None:
            self._refuse("invalid_request", f"The request is not strict HTTP/1.1: {problem}.")
            return False
        return self._parse_head(head)

    def _parse_head(self, head: bytes) -> bool:
        self._headers = {}
        self._headers_count = 0
        self._repeated = False
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)  # an upgrade is never taken: it stays an ordinary request
        except httptools.HttpParserError:
            self._refuse("invalid_request", "The request is not strict HTTP/1.1.")
            return False
        headers = self._headers
        if self._headers_count > self._gate.limits.headers:
            self._refuse("headers_too_large", f"More than {self._gate.limits.headers} headers.")
            return False
        method, _, rest = head.partition(b" ")
        http11 = rest.partition(b"\r\n")[0].endswith(b"1")
        connection = headers.get(b"connection", b"").lower()
        keep_alive = b"close" not in connection if http11 else b"keep-alive" in connection
        request = InboundRequest(method, self._url, http11, headers, keep_alive)
        problem = self._framing(request)
        if problem is not None:
            self._refuse(*problem)
            return False
        self._pending = request
        if self._body_bytes == 0 and self._chunked is None:
            self._complete(b"")
        return True

    def _framing(self, request: InboundRequest) -> tuple[str, str] | None:
        """How the body is delimited, or why it may not be: (code, detail)."""
        headers, limits = request.headers, self._gate.limits
        self._body_bytes = 0
        if self._repeated:
            return "invalid_request", "A header that must stand once is repeated."
        host = headers.get(b"host")
        if (host is None and request.http11) or (host is not None and not host_ok(host)):
            return "invalid_request", "The Host header is missing or malformed."
        length, encoding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
        if encoding is not None:
            if length is not None or not request.http11 or encoding.lower() != b"chunked":
                return "invalid_request", "The framing of the body is ambiguous."
            self._chunked = ChunkedDecoder()
            self._parser = httptools.HttpRequestParser(self)
        elif length is not None:
            size = content_length(length)
            if size is None:
                return "invalid_request", "Content-Length is not a number."
            if size > limits.body_bytes:
                return "body_too_large", f"The body is larger than {limits.body_bytes} bytes ([limits] body_bytes)."
            if self._gate.buffered_bytes + size > limits.buffered_bytes:
                return "admission_full", "The router holds too many request bodies; try again."
            self._count(size)
            self._body_bytes = size
        expect = headers.get(b"expect")
        if expect is not None:
            if expect.lower() != b"100-continue":
                return "invalid_request", "The expectation cannot be met."
            if request.http11 and not self._buffer and (self._body_bytes or self._chunked):
                self.transport.write(_CONTINUE)
        return None

    def _read_body(self) -> bool:
        data, self._buffer = self._buffer, b""
        if self._chunked is not None:
            return self._read_chunked(self._chunked, data)
        need = self._body_bytes
        if len(data) > need:
            data, self._buffer = data[:need], data[need:]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            self._parser = httptools.HttpRequestParser(self)  # an upgraded head left it done; the count is ours anyway
        self._body_bytes = need - len(data)
        if self._body_bytes == 0 and not self._body:
            self._complete(data)
            return True
        self._body.append(data)
        if self._body_bytes == 0:
            self._complete(b"".join(self._body))
        return True

    def _read_chunked(self, decoder: ChunkedDecoder, data: bytes) -> bool:
        gate = self._gate
        try:
            decoder.feed(data)
        except ChunkedError as error:
            self._refuse("invalid_request", f"The chunked body is malformed: {error}.")
            return False
        self._count(decoder.body_bytes - self._counted_bytes)
        if decoder.body_bytes > gate.limits.body_bytes:
            self._refuse("body_too_large", f"The body is larger than {gate.limits.body_bytes} bytes.")
            return False
        if gate.buffered_bytes > gate.limits.buffered_bytes:
            self._refuse("admission_full", "The router holds too many request bodies; try again.")
            return False
        if decoder.done:
            self._buffer = decoder.rest
            self._complete(b"".join(decoder.pieces))
        return True

    def _complete(self, body: bytes) -> None:
        request, self._pending = self._pending, None
        assert request is not None
        self._gate.bodies.pop(self, None)
        self._body = []
        self._chunked = None
        request.body = body
        self.busy = True
        self._handler.begin(self, request)

    def _count(self, size: int) -> None:
        self._counted_bytes += size
        self._gate.buffered_bytes += size

    def _release_body(self) -> None:
        self._gate.buffered_bytes -= self._counted_bytes
        self._counted_bytes = 0
        self._body = []

    # httptools' side

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        headers = self._headers
        self._headers_count += 1
        if name in headers:
            if name in _SINGLE:
                self._repeated = True
            else:
                headers[name] = headers[name] + b", " + value
            return
        headers[name] = value
