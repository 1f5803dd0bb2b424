"""A client's connection: strict requests in, answers out, one at a time and in the order they were asked.

The head is read as a whole, and the body is cut by exact count, so what follows a request is the next request and
nothing else. Every wait has an absolute limit, kept by ``Gate.sweep``.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import termios
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from router.core.types import Value
from router.wire.chunked import ChunkedDecoder, ChunkedError
from router.wire.head import HEAD_END, HeadError, RequestHead, RequestHeads, check_beginning
from router.wire.sockets import forget_unsent

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: A body up to this length is handed on as bytes. To copy a longer one would hold up the loop.
_COPIED_BYTES_MAX = 256 * 1024
#: What the framing of a body in chunks may have beside a sixteenth of the body's limit; at most half of that limit.
_FRAMING_FREE_BYTES = 64 * 1024
#: So many waits of one kind end in one sweep at most: thousands at once would hold up everybody else.
_SWEEP_MAX = 250


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one client may cost. Those without a default here are settings, see ``config/model.py``."""

    head_bytes: int
    headers: int
    body_bytes: int
    buffered_bytes: int  # bodies of all connections together
    connections: int
    body_timeout_s: float  # of a body that comes slower than body_bytes_per_s
    body_bytes_per_s: int
    body_whole_s: float  # of any body
    stall_s: float  # a client must take stall_bytes of its answer, or all of it, every stall_s
    stall_bytes: int = 1024
    head_timeout_s: float = 8.0
    pace_s: float = 8.0  # a body must bring pace_bytes, or its end, every pace_s
    pace_bytes: int = 8 * 1024
    idle_timeout_s: float = 75.0
    linger_timeout_s: float = 2.0
    write_high_bytes: int = 64 * 1024
    pipelined_bytes: int = 64 * 1024


class InboundRequest(Value, eq=False):
    """A request as it arrived. A long body that came in pieces is a bytearray, which nobody alters any more."""

    head: RequestHead
    body: bytes | bytearray

    @property
    def method(self) -> bytes:
        return self.head.method

    @property
    def target(self) -> bytes:
        return self.head.target

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Names are in lower case; repeated headers are joined with a comma."""
        return self.head.headers

    @property
    def keep_alive(self) -> bool:
        return self.head.keep_alive


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

    limits: ClientLimits
    now_s: Callable[[], float]
    connections: set[Inbound] = field(default_factory=set)
    buffered_bytes: int = 0
    closing: bool = False  # answers carry connection: close
    reader: RequestHeads = field(init=False)
    heads: dict[Inbound, float] = field(default_factory=dict)
    bodies: dict[Inbound, float] = field(default_factory=dict)
    uploads: dict[Inbound, float] = field(default_factory=dict)  # bodies, since their beginning
    paces: dict[Inbound, float] = field(default_factory=dict)  # of bodies, since their last look
    idle: dict[Inbound, float] = field(default_factory=dict)
    lingering: dict[Inbound, float] = field(default_factory=dict)
    stalled: dict[Inbound, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reader = RequestHeads(self.limits.headers)

    def reload(self, limits: ClientLimits) -> None:
        self.limits = limits
        self.reader = RequestHeads(limits.headers)

    def sweep(self) -> None:
        """Enforce the absolute limits. Call it a few times a second."""
        now_s, limits = self.now_s(), self.limits
        for waiting, timeout_s, act in (
            (self.heads, limits.head_timeout_s, Inbound.head_expired),
            (self.bodies, limits.body_timeout_s, Inbound.body_expired),
            (self.uploads, limits.body_whole_s, Inbound.upload_expired),
            (self.paces, limits.pace_s, Inbound.pace_expired),
            (self.idle, limits.idle_timeout_s, Inbound.idle_expired),
            (self.lingering, limits.linger_timeout_s, Inbound.abort),
            (self.stalled, limits.stall_s, Inbound.stall_expired),
        ):
            for _ in range(min(len(waiting), _SWEEP_MAX)):
                connection, since_s = next(iter(waiting.items()))
                if now_s - since_s < timeout_s:
                    break
                del waiting[connection]
                act(connection)

    def close_quiet(self, before_s: float) -> None:
        """Close the connections on which nothing has happened since ``before_s`` and no request has begun."""
        for waiting in (self.idle, self.heads):
            for connection in [c for c, since_s in waiting.items() if since_s <= before_s]:
                connection.close_quiet()

    def forget(self, connection: Inbound) -> None:
        self.connections.discard(connection)
        for waiting in (self.heads, self.bodies, self.uploads, self.paces, self.idle, self.lingering, self.stalled):
            waiting.pop(connection, None)


class Inbound(asyncio.Protocol):
    """One client connection. ``exchange`` is whatever the handler hangs on it while a request is being answered."""

    __slots__ = (
        "_body",
        "_buffer",
        "_chunked",
        "_counted_bytes",
        "_discarded_bytes",
        "_discarding",
        "_gate",
        "_handler",
        "_missing_bytes",
        "_paced_bytes",
        "_pending",
        "_pumping",
        "_reading_paused",
        "_resting",
        "_unsent_bytes",
        "busy",
        "exchange",
        "paused",
        "transport",
        "write",
    )

    def __init__(self, gate: Gate, handler: Handler) -> None:
        self._gate = gate
        self._handler = handler
        self.transport: asyncio.Transport
        self.write: Callable[[bytes], None]
        self._buffer = b""
        self._pending: RequestHead | None = None  # its body is still arriving
        self._body = bytearray()  # of what is pending; one that grows moves no bytes where pieces had to be joined
        self._missing_bytes = 0
        self._counted_bytes = 0  # in the gate's budget
        self._paced_bytes = 0  # of the body, at its last look
        self._chunked: ChunkedDecoder | None = None
        self._pumping = False
        self._discarding = False
        self._discarded_bytes = 0  # what came after an early answer
        self._reading_paused = False
        self._unsent_bytes = 0  # of the answer, at the last look at a client that takes nothing
        self._resting = False  # the rest of what was read has its turn later
        self.busy = False
        self.paused = False
        self.exchange: Any = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write
        gate = self._gate
        if len(gate.connections) >= gate.limits.connections:
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=gate.limits.write_high_bytes)
        gate.connections.add(self)
        gate.heads[self] = gate.now_s()

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            self._discard(len(data))
            return
        self._buffer = self._buffer + data if self._buffer else data
        if not self.busy:
            self._pump()
        elif len(self._buffer) > self._gate.limits.pipelined_bytes and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _discard(self, size: int) -> None:
        """Read on after an early answer, but not for ever."""
        self._discarded_bytes += size
        if self._discarded_bytes > self._gate.limits.body_bytes and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

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
        self._stall()
        self._handler.writable(self, False)

    def resume_writing(self) -> None:
        self.paused = False
        self._gate.stalled.pop(self, None)
        self._handler.writable(self, True)

    # the handler's side

    def finish(self, keep_alive: bool) -> None:
        """The answer is complete: go on with the next request, or close once everything is written."""
        self.busy = False
        self.exchange = None
        gate = self._gate
        gate.buffered_bytes -= self._counted_bytes
        self._counted_bytes = 0
        if not keep_alive or gate.closing or self._discarding:
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
            gate.idle[self] = gate.now_s()

    def close(self) -> None:
        """Close once everything is written; a client that does not read it is cut off in the end."""
        self._discarding = True
        gate = self._gate
        if self.transport.get_write_buffer_size() and self in gate.connections:
            self._stall()
        self.transport.close()

    def abort(self) -> None:
        self._discarding = True
        self.transport.abort()

    def reset(self) -> None:
        """Cut off a client that does not read: without a reset, the system would hold the rest of the answer for it for
        minutes."""
        with contextlib.suppress(OSError, AttributeError):
            forget_unsent(self.transport.get_extra_info("socket").fileno())
        self.abort()

    def linger(self) -> None:
        """Close after an early answer: read on for a moment so that a reset does not overtake the answer."""
        self._discarding = True
        self._buffer = b""
        self._gate.heads.pop(self, None)
        self._forget_body()
        self._gate.lingering[self] = self._gate.now_s()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def idle_expired(self) -> None:
        """Close, unless the next request is here already and was not read yet."""
        if self._has_unread():
            self._gate.idle[self] = self._gate.now_s()
        else:
            self.close()

    def close_quiet(self) -> None:
        """Close, unless a request has begun or stands unread in the socket."""
        if not self._buffer and not self._has_unread():
            self.close()

    def head_expired(self) -> None:
        if self._buffer.strip(b"\r\n"):
            self._give_up("The head of the request did not arrive in time.")
        elif not self._buffer and self._has_unread():
            self._gate.heads[self] = self._gate.now_s()
        else:
            self.close()

    def _stall(self) -> None:
        """From now on the client has to take something."""
        if self not in self._gate.stalled:
            self._gate.stalled[self] = self._gate.now_s()
            self._unsent_bytes = self.unsent()

    def unsent(self) -> int:
        """Bytes of the answer that the client has not taken, here and in the socket."""
        queued = array("i", [0])
        with contextlib.suppress(OSError, AttributeError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return queued[0] + self.transport.get_write_buffer_size()

    def stall_expired(self) -> None:
        """Cut the client off, unless it reads on, however slowly."""
        before_bytes, self._unsent_bytes = self._unsent_bytes, self.unsent()
        if before_bytes - self._unsent_bytes < self._gate.limits.stall_bytes:
            self.reset()
        else:
            self._gate.stalled[self] = self._gate.now_s()

    def _has_unread(self) -> bool:
        """Whether bytes stand in the socket that the loop, held up or just about to, has not read."""
        unread = array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, unread)
        return unread[0] > 0

    def body_expired(self) -> None:
        """The time of a slow body is over. One that comes fast enough goes on, and is looked at again."""
        gate = self._gate
        now_s = gate.now_s()
        took_s = now_s - gate.uploads.get(self, now_s)
        if self._counted_bytes >= took_s * gate.limits.body_bytes_per_s:
            gate.bodies[self] = now_s
        else:
            self.upload_expired()

    def upload_expired(self) -> None:
        self._give_up("The body of the request did not arrive in time.")

    def pace_expired(self) -> None:
        if self._counted_bytes - self._paced_bytes < self._gate.limits.pace_bytes:
            self._give_up("The body of the request arrives too slowly.")
        else:
            self._paced_bytes = self._counted_bytes
            self._gate.paces[self] = self._gate.now_s()

    def _give_up(self, detail: str) -> None:
        """Everything that came was read, so the answer needs no lingering to arrive."""
        self._refuse("request_timeout", detail)
        self._gate.lingering.pop(self, None)
        self.close()

    # reading

    @property
    def head(self) -> RequestHead | None:
        """Of the request whose body is being read; None when a head is."""
        return self._pending

    @property
    def unread(self) -> bytes:
        """What has come and was not read: the beginning of a head that is refused."""
        return self._buffer

    def _refuse(self, code: str, detail: str) -> None:
        self._release_body()
        self._handler.refuse(self, code, detail)
        self._pending = None
        self.linger()

    def _pump(self) -> None:
        """Read requests off the buffer until one is being answered or more bytes are needed."""
        if self._resting:
            return
        gate = self._gate
        gate.idle.pop(self, None)
        self._pumping = True
        try:
            while self._buffer and not self.busy and not self._discarding:
                if not (self._read_head() if self._pending is None else self._read_body()):
                    break
        finally:
            self._pumping = False
        if self.busy or self._discarding:
            return
        if self._pending is not None:
            now_s = gate.now_s()
            gate.bodies.setdefault(self, now_s)
            gate.uploads.setdefault(self, now_s)
            gate.paces.setdefault(self, now_s)
        elif self._buffer:
            gate.heads.setdefault(self, gate.now_s())
        else:
            gate.idle[self] = gate.now_s()

    def _read_head(self) -> bool:
        """Take a head, and its body if it is here already. False: nothing more can be read now."""
        data, gate = self._buffer, self._gate
        raw, end, body = data.partition(HEAD_END)
        if not end or len(raw) + len(end) > gate.limits.head_bytes or data[0] < 32:
            return self._read_odd_head(len(raw) + len(end))
        try:
            head, length = gate.reader.read(raw + end)
        except HeadError as problem:
            self._refuse(problem.code, problem.detail)
            return False
        if gate.heads:
            gate.heads.pop(self, None)
        if head.chunked or head.expects or len(body) < length:
            self._buffer = body
            return self._await_body(head, length)
        if length and not self._count(length, head):
            return False
        if len(body) == length:
            self._buffer = b""
        else:
            body, self._buffer = body[:length], body[length:]
        self.busy = True
        self._handler.begin(self, InboundRequest(head, body))
        return True

    def _read_odd_head(self, size: int) -> bool:
        """A head that is not whole yet, too large, or begins with a line end. ``size``: of what is there of it."""
        data, limits = self._buffer, self._gate.limits
        if data.startswith(b"\r\n") and len(data) > 2:  # one empty line before a request is allowed (RFC 9112 2.2)
            self._buffer = data = data[2:]
            if data[0] >= 32:
                return self._read_head()
        elif b"\r\n".startswith(data):
            return False
        try:
            if data[0] < 32:
                raise HeadError("Malformed request line.")
            check_beginning(data[: limits.head_bytes])
            if size > limits.head_bytes:
                raise HeadError(f"The head is larger than {limits.head_bytes} bytes.", "headers_too_large")
        except HeadError as problem:
            self._refuse(problem.code, problem.detail)
        return False

    def _await_body(self, head: RequestHead, length: int) -> bool:
        self._pending = head
        if length > self._gate.limits.body_bytes:
            self._refuse_size()
            return False
        self._missing_bytes = length
        self._paced_bytes = 0
        if head.chunked:
            self._chunked = ChunkedDecoder()
        self._body = bytearray() if self._chunked is None else self._chunked.body
        if head.expects and not self._buffer and (length or head.chunked):
            self.transport.write(_CONTINUE)
        if not length and not head.chunked:
            self._complete(head)
        return True

    def _read_body(self) -> bool:
        head = self._pending
        assert head is not None
        data, self._buffer = self._buffer, b""
        if self._chunked is not None:
            return self._read_chunked(head, self._chunked, data)
        missing = self._missing_bytes
        if len(data) > missing:
            data, self._buffer = data[:missing], data[missing:]
        if not self._count(len(data)):
            return False
        self._body += data
        self._missing_bytes = missing - len(data)
        if self._missing_bytes == 0:
            self._complete(head)
        return True

    def _read_chunked(self, head: RequestHead, decoder: ChunkedDecoder, data: bytes) -> bool:
        try:
            decoder.feed(data)
        except ChunkedError as error:
            self._refuse("invalid_request", f"The chunked body is malformed: {error}.")
            return False
        limit_bytes = self._gate.limits.body_bytes
        if decoder.announced_bytes > limit_bytes or decoder.framing_bytes > limit_bytes // 16 + min(
            limit_bytes // 2, _FRAMING_FREE_BYTES
        ):
            self._refuse_size()
            return False
        if not self._count(len(decoder.body) - self._counted_bytes):
            return False
        if decoder.done:
            self._buffer = decoder.take_rest()
            self._complete(head)
        elif decoder.stopped:
            self._buffer = decoder.take_rest()
            self._rest()
            return False
        return True

    def _rest(self) -> None:
        """Tiny chunks cost time: let everybody else have a turn before the next of them."""
        self._resting = True
        self.transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        self._resting = False
        if not self._discarding:
            self.transport.resume_reading()
            self._pump()

    def _complete(self, head: RequestHead) -> None:
        body, self._body = self._body, bytearray()
        self._pending = self._chunked = None
        self._forget_body()
        self.busy = True
        self._handler.begin(self, InboundRequest(head, bytes(body) if len(body) <= _COPIED_BYTES_MAX else body))

    def _count(self, size: int, head: RequestHead | None = None) -> bool:
        """Count bytes of a body. False: they are over a limit, and the request is refused. ``head``: of a body that
        came in one piece with it."""
        gate, limits = self._gate, self._gate.limits
        self._counted_bytes = counted = self._counted_bytes + size
        gate.buffered_bytes = buffered = gate.buffered_bytes + size
        if counted <= limits.body_bytes and buffered <= limits.buffered_bytes:
            return True
        self._pending = head or self._pending
        if counted > limits.body_bytes:
            self._refuse_size()
        else:
            self._refuse("admission_full", "The router holds too many request bodies; try again.")
        return False

    def _refuse_size(self) -> None:
        limit_bytes = self._gate.limits.body_bytes
        self._refuse("body_too_large", f"The body is larger than {limit_bytes} bytes ([limits] body_bytes).")

    def _forget_body(self) -> None:
        gate = self._gate
        for waiting in (gate.bodies, gate.uploads, gate.paces):
            waiting.pop(self, None)

    def _release_body(self) -> None:
        self._gate.buffered_bytes -= self._counted_bytes
        self._counted_bytes = 0
        self._body, self._chunked = bytearray(), None
