"""Connections that misbehave as they are told: what attempts that meet a fault on purpose go through."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import orjson

from router.core.framing import events_of
from router.core.sse import StreamKind, StreamWatch
from router.upstream.pool import LAST_HOPE_TIMES, ConnectError, Pool
from router.wire.head import Headers
from router.wire.outbound import Outbound, Piece, Sink

#: A slow answer may have as much in hand; what is more is passed on.
_HELD_BYTES_MAX = 4 * 1024 * 1024


class FaultyPool(Pool):
    """Stands for a pool, whose state it shares. Every attempt makes a connection of its own."""

    __slots__ = ("_kind", "_value", "fault")

    def __init__(self, pool: Pool, fault: str, value: float) -> None:
        self.__dict__ = pool.__dict__
        self.fault = self._kind = fault
        self._value = value

    def take(self, now_s: float) -> Outbound | None:
        return None

    def order(self, timeout_s: float, last_hope: Callable[[], bool] = lambda: False) -> asyncio.Future[Outbound]:
        return self.order_new(timeout_s, last_hope)

    async def connect(self, timeout_s: float, last_hope: Callable[[], bool] = lambda: False) -> Outbound:
        if self.fault == "refuse":
            raise ConnectError("upstream_unreachable", "could not be reached (chaos)")
        if self.fault == "blackhole":
            for _ in range(LAST_HOPE_TIMES):
                await asyncio.sleep(timeout_s)
                if not last_hope():
                    break
            raise ConnectError("connect_timeout", "did not accept a connection in time (chaos)")
        if self.fault == "delay":
            await asyncio.sleep(self._value)
        return await super().connect(timeout_s, last_hope)

    def _new(self) -> Outbound:
        return _FaultyOutbound(self._returned, self._lost, self._heads).meet(self._kind, self._value)

    def _returned(self, connection: Outbound) -> None:
        self._drop(connection)


class _FaultyOutbound(Outbound):
    __slots__ = ("_fault", "_value", "given_up")

    def meet(self, fault: str, value: float) -> _FaultyOutbound:
        self._fault, self._value, self.given_up = fault, value, False
        return self

    def send(self, pieces: tuple[Piece, ...], sink: Sink) -> None:
        if self._fault == "status":
            if not self.usable:
                raise ConnectionResetError("closed before it was used")
            self.sink, self.answered = sink, False
            asyncio.get_running_loop().call_soon(self._answer_itself, int(self._value))
            return
        if self._fault in ("cut", "stall"):
            sink = _Broken(self, sink, int(self._value), silent=self._fault == "stall")
        elif self._fault == "slow":
            sink = _Slow(self, sink, self._value)
        super().send(pieces, sink)

    def _answer_itself(self, status: int) -> None:
        if self.sink is None:
            return
        message = f"status {status} on purpose (chaos)"
        body = orjson.dumps({"error": {"message": message, "type": "chaos", "param": None, "code": status}})
        head = b"HTTP/1.1 %d Chaos\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.data_received(head % (status, len(body)) + body)

    def abort(self) -> None:
        self.given_up = True
        super().abort()


class _Broken:
    """Stands between a connection and who reads its answer (a Sink). After ``after_tokens``, or at the first byte of an
    answer that does not stream, the connection breaks, or is ``silent``."""

    def __init__(self, outbound: Outbound, sink: Sink, after_tokens: int, *, silent: bool) -> None:
        self._outbound = outbound
        self._sink = sink
        self._watch = StreamWatch(StreamKind.CHAT)
        self._after_tokens = after_tokens
        self._silent = silent
        self._broken = silent and not after_tokens

    def on_head(self, status: int, headers: Headers) -> None:
        streams = any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
        if not streams:
            self._after_tokens = 0
            self._broken = self._silent
        if not self._broken:
            self._sink.on_head(status, headers)

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        if self._broken:
            return
        passed = self._passed(data)
        if passed:
            self._sink.on_body(passed, framed if len(passed) == len(data) else None)
        if self._watch.events < self._after_tokens or self._outbound.sink is not self:
            return
        self._broken = True
        if not self._silent:
            self._outbound.abort()
            self._sink.on_fail("lost", answered=True)

    def _passed(self, data: bytes) -> bytes:
        """What comes through: no event more than there are tokens to come."""
        passed = []
        for event in events_of(data):
            if self._watch.events >= self._after_tokens:
                break
            self._watch.feed(event)
            passed.append(event)
        return b"".join(passed)

    def on_end(self, *, framed: bool) -> None:
        if not self._broken:
            self._sink.on_end(framed=framed)

    def on_fail(self, reason: str, *, answered: bool) -> None:
        if not self._broken:
            self._sink.on_fail(reason, answered=answered)


class _Slow:
    """Passes everything on later: what comes after one second comes after ``factor`` seconds."""

    def __init__(self, outbound: _FaultyOutbound, sink: Sink, factor: float) -> None:
        self._outbound = outbound
        self._sink = sink
        self._factor = factor
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._waiting: deque[tuple[float, Callable[[], None], int]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def on_head(self, status: int, headers: Headers) -> None:
        self._later(lambda: self._sink.on_head(status, headers))

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        self._later(lambda: self._sink.on_body(data, framed), len(data))

    def on_end(self, *, framed: bool) -> None:
        self._later(lambda: self._sink.on_end(framed=framed))

    def on_fail(self, reason: str, *, answered: bool) -> None:
        self._later(lambda: self._sink.on_fail(reason, answered=answered))

    def _later(self, tell: Callable[[], None], size: int = 0) -> None:
        now_s = self._loop.time()
        due_s = self._began_s + (now_s - self._began_s) * self._factor
        self._waiting.append((due_s, tell, size))
        self._bytes += size
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._tell)
        while self._bytes > _HELD_BYTES_MAX:
            self._tell_next()

    def _tell(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now_s:
            self._tell_next()
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0][0], self._tell)

    def _tell_next(self) -> None:
        _, tell, size = self._waiting.popleft()
        self._bytes -= size
        if not self._outbound.given_up:
            tell()
