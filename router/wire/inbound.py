"""A client's connection: strict requests in, answers out, one at a time and in the order they were asked.

The head is read as a whole, and the body is cut by exact count, so what follows a request is the next request and
nothing else. Every wait has an absolute limit, kept by ``Gate.sweep``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol, cast

from router.core.types import Value
from router.wire.chunked import ChunkedError
from router.wire.gate import Gate
from router.wire.head import HEAD_END, HeadError, RequestHead, check_beginning
from router.wire.sockets import forget_unsent, unread_bytes, unsent_bytes
from router.wire.upload import Upload

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class InboundRequest(Value, eq=False):
    """A request as it arrived. A long body that came in pieces is a bytearray, which is not altered any more."""

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


class Inbound(asyncio.Protocol):
    """One client connection. ``exchange`` is whatever the handler hangs on it while a request is being answered."""

    __slots__ = (
        "_buffer",
        "_counted_bytes",
        "_discarded_bytes",
        "_discarding",
        "_gate",
        "_handler",
        "_pumping",
        "_reading_paused",
        "_resting",
        "_unsent_bytes",
        "_upload",
        "busy",
        "exchange",
        "head",
        "paused",
        "transport",
        "write",
    )

    def __init__(self, gate: Gate[Inbound], handler: Handler) -> None:
        self._gate = gate
        self._handler = handler
        self.transport: asyncio.Transport
        self.write: Callable[[bytes], None]
        self._buffer = b""
        self.head: RequestHead | None = None  # of the request whose body is arriving; None while a head is
        self._upload: Upload | None = None  # that body
        self._counted_bytes = 0  # in the gate's budget
        self._pumping = False
        self._discarding = False
        self._discarded_bytes = 0  # what came after an early answer
        self._reading_paused = False
        self._unsent_bytes = 0  # of the answer, when a client that takes nothing was last checked
        self._resting = False  # the rest of the buffer is read in a later turn of the loop
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
        """Read on after an early answer, up to a limit."""
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
        """The answer is complete: go on to the next request if it let the client expect that, or close once
        everything is written."""
        self.busy = False
        self.exchange = None
        gate = self._gate
        gate.buffered_bytes -= self._counted_bytes
        self._counted_bytes = 0
        if not keep_alive or self._discarding:
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
        """Close, unless a request has begun or waits unread in the socket."""
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
        """From now on the client must take some of the answer in time."""
        if self not in self._gate.stalled:
            self._gate.stalled[self] = self._gate.now_s()
            self._unsent_bytes = self.unsent()

    def unsent(self) -> int:
        """Bytes of the answer that the client has not taken, here and in the socket."""
        return unsent_bytes(self.transport) + self.transport.get_write_buffer_size()

    def stall_expired(self) -> None:
        """Cut the client off, unless it reads on, however slowly."""
        before_bytes, self._unsent_bytes = self._unsent_bytes, self.unsent()
        if before_bytes - self._unsent_bytes < self._gate.limits.stall_bytes:
            self.reset()
        else:
            self._gate.stalled[self] = self._gate.now_s()

    def _has_unread(self) -> bool:
        """The socket holds bytes that the loop has not read yet."""
        return unread_bytes(self.transport) > 0

    def body_expired(self) -> None:
        """The time of a slow body is over. One that comes fast enough goes on and is checked again later."""
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
        upload = self._upload
        assert upload is not None
        if self._counted_bytes - upload.paced_bytes < self._gate.limits.pace_bytes:
            self._give_up("The body of the request arrives too slowly.")
        else:
            upload.paced_bytes = self._counted_bytes
            self._gate.paces[self] = self._gate.now_s()

    def _give_up(self, detail: str) -> None:
        """Everything that came was read, so the answer needs no lingering to arrive."""
        self._refuse("request_timeout", detail)
        self._gate.lingering.pop(self, None)
        self.close()

    # reading

    @property
    def unread(self) -> bytes:
        """Bytes that have arrived and were not read, such as the beginning of a head that is refused."""
        return self._buffer

    def _refuse(self, code: str, detail: str) -> None:
        self._release_body()
        self._handler.refuse(self, code, detail)
        self.head = None
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
                if not (self._read_head() if self._upload is None else self._read_body(self._upload)):
                    break
        finally:
            self._pumping = False
        if self.busy or self._discarding:
            return
        if self._upload is not None:
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
        if not end or len(raw) + len(end) > gate.limits.head_bytes:
            return self._read_odd_head(len(raw) + len(end))
        try:
            head, length = gate.reader.read(raw + end)
        except HeadError as problem:
            if data[0] < 32:
                return self._read_odd_head(len(raw) + len(end))
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
        """A head that is incomplete, too large, or begins with a line end. ``size``: of the part that has arrived."""
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
        self.head = head
        self._upload = upload = Upload(head, length)
        if upload.exceeds(self._gate.limits.body_bytes):
            self._refuse_size()
            return False
        if upload.done:
            self._complete(upload)
        elif head.expects and not self._buffer:
            self.transport.write(_CONTINUE)
        return True

    def _read_body(self, upload: Upload) -> bool:
        data, self._buffer = self._buffer, b""
        try:
            self._buffer = upload.feed(data)
        except ChunkedError as error:
            self._refuse("invalid_request", f"The chunked body is malformed: {error}.")
            return False
        if upload.exceeds(self._gate.limits.body_bytes):
            self._refuse_size()
            return False
        if not self._count(upload.size_bytes - self._counted_bytes):
            return False
        if upload.done:
            self._complete(upload)
        elif upload.stopped:
            self._rest()
            return False
        return True

    def _rest(self) -> None:
        """Tiny chunks cost time: let other connections have a turn before the next ones."""
        self._resting = True
        self.transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        self._resting = False
        if not self._discarding:
            self.transport.resume_reading()
            self._pump()

    def _complete(self, upload: Upload) -> None:
        self.head = self._upload = None
        self._forget_body()
        self.busy = True
        self._handler.begin(self, InboundRequest(upload.head, upload.take()))

    def _count(self, size: int, head: RequestHead | None = None) -> bool:
        """Count bytes of a body. False: they are over a limit, and the request is refused. ``head``: of a body that
        came in one piece with it."""
        gate, limits = self._gate, self._gate.limits
        self._counted_bytes = counted = self._counted_bytes + size
        gate.buffered_bytes = buffered = gate.buffered_bytes + size
        if counted <= limits.body_bytes and buffered <= limits.buffered_bytes:
            return True
        self.head = head or self.head
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
        self._upload = None
