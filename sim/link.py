"""The network in front of a simulated engine, in user space: latency both ways, freezing, and rude endings.

Sits between the socket and the HTTP server, so everything that crosses the connection is late by half a round trip,
in order and with its pacing kept: requests, bodies, every token, probes, and the news that the other side has left.
The first bytes of a connection are late by one more round trip, the one that its handshake would have cost.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

_LINGER_ZERO = struct.pack("ii", 1, 0)  # closing sends RST and drops what is unsent


class Link:
    """What all connections of one listener have in common."""

    def __init__(self, rtt_s: float = 0.0) -> None:
        self.rtt_s = rtt_s
        self.connections: set[LinkProtocol] = set()
        self._frozen = False

    @property
    def frozen(self) -> bool:
        """Connections are accepted and no byte passes, as if the process were stopped."""
        return self._frozen

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        self._frozen = frozen
        if not frozen:
            for connection in list(self.connections):
                connection.thaw()

    def protocol(self, inner: asyncio.Protocol) -> LinkProtocol:
        return LinkProtocol(inner, self)

    def reset_all(self) -> None:
        """RST on every open connection."""
        for connection in list(self.connections):
            connection.reset()


class _Delay:
    """A queue whose items come out in order, each no earlier than ``delay_s`` after it went in."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._items: deque[tuple[float, Callable[[], None]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, action: Callable[[], None], delay_s: float) -> None:
        if delay_s <= 0.0 and not self._items and not self._link.frozen:
            action()
            return
        due_s = self._loop.time() + delay_s
        if self._items:
            due_s = max(due_s, self._items[-1][0])
        self._items.append((due_s, action))
        self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._items and not self._link.frozen:
            self._timer = self._loop.call_at(self._items[0][0], self.flush)

    def flush(self) -> None:
        self._timer = None
        now_s = self._loop.time() + 0.0005  # timers of the loop tick in milliseconds
        while self._items and self._items[0][0] <= now_s and not self._link.frozen:
            self._items.popleft()[1]()
        self._arm()


class LinkProtocol(asyncio.Protocol):
    """What the socket sees."""

    def __init__(self, inner: asyncio.Protocol, link: Link) -> None:
        self._inner = inner
        self._link = link
        self._inbound = _Delay(link)
        self._heard = False
        self._real: asyncio.Transport | None = None
        self._transport: LinkTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        real = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._real = real
        self._link.connections.add(self)
        self._transport = LinkTransport(real, self._link)
        self._inner.connection_made(self._transport)

    def data_received(self, data: bytes) -> None:
        delay_s = self._link.rtt_s / 2
        if not self._heard:
            self._heard = True
            delay_s += self._link.rtt_s
        self._inbound.put(lambda: self._inner.data_received(data), delay_s)

    def eof_received(self) -> bool:
        self._inbound.put(self._eof, self._link.rtt_s / 2)
        return True

    def _eof(self) -> None:
        assert self._transport is not None
        if not self._inner.eof_received():
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.connections.discard(self)
        assert self._transport is not None
        delay_s = 0.0 if self._transport.closed_by_us else self._link.rtt_s / 2
        self._inbound.put(lambda: self._lost(exc), delay_s)
        if self._link.frozen:
            # Nobody will thaw a connection that is gone from the set: tell the server when the freeze ends.
            self._link.connections.add(self)

    def _lost(self, exc: Exception | None) -> None:
        assert self._transport is not None
        self._transport.known_lost = True
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def thaw(self) -> None:
        assert self._real is not None
        assert self._transport is not None
        self._inbound.flush()
        self._transport.thaw()
        if self._real.is_closing():
            self._link.connections.discard(self)

    def reset(self) -> None:
        assert self._transport is not None
        self._transport.reset()


class LinkTransport(asyncio.Transport):
    """What the HTTP server sees."""

    def __init__(self, real: asyncio.Transport, link: Link) -> None:
        super().__init__()
        self._real = real
        self._link = link
        self._outbound = _Delay(link)
        self._queued_bytes = 0
        self.closed_by_us = False
        self.known_lost = False  # the server has been told that the other side is gone
        self.requests = 0  # counted by the server

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self.closed_by_us:
            return
        copy = bytes(data)
        self._queued_bytes += len(copy)
        self._outbound.put(lambda: self._send(copy), self._link.rtt_s / 2)

    def _send(self, data: bytes) -> None:
        self._queued_bytes -= len(data)
        if not self._real.is_closing():
            self._real.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """FIN after everything that was written."""
        if not self.closed_by_us:
            self.closed_by_us = True
            self._outbound.put(self._real.close, self._link.rtt_s / 2)

    def abort(self) -> None:
        if not self.closed_by_us:
            self.closed_by_us = True
            self._outbound.put(self._real.abort, self._link.rtt_s / 2)

    def reset(self) -> None:
        """RST after everything that was written."""
        self.closed_by_us = True
        self._outbound.put(self._reset, self._link.rtt_s / 2)

    def _reset(self) -> None:
        sock = self._real.get_extra_info("socket")
        if sock is not None and not self._real.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._real.abort()

    def thaw(self) -> None:
        self._outbound.flush()

    def is_closing(self) -> bool:
        return self.closed_by_us or self.known_lost

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._real.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._real.get_write_buffer_size() + self._queued_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._real.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self._real.pause_reading()

    def resume_reading(self) -> None:
        if not self._real.is_closing():
            self._real.resume_reading()

    def is_reading(self) -> bool:
        return self._real.is_reading()
