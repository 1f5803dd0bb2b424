"""Clients that open a connection and send as slowly as they can, by the thousand."""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass, field
from typing import cast

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
#: how a client is slow -> what it sends at once, and what a byte at a time
SLOW: dict[str, tuple[bytes, bytes]] = {
    "head": (b"", HEAD * 100),
    "body": (HEAD + b"content-length: 100000\r\n\r\n", b"x" * 100),
    "chunks": (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 20),
    "silence": (b"", b""),
}


class Loris(asyncio.Protocol):
    """One of them. ``held_s``: how long the server kept it, None while it still does."""

    def __init__(self, at_once: bytes, drip: bytes) -> None:
        self._at_once = at_once
        self._drip = drip
        self._sent = 0
        self.opened_s = 0.0
        self.held_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.opened_s = time.monotonic()
        self.transport.write(self._at_once)

    def drip(self) -> None:
        if self.held_s is None and self._sent < len(self._drip):
            self.transport.write(self._drip[self._sent : self._sent + 1])
            self._sent += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.held_s = time.monotonic() - self.opened_s


@dataclass
class Swarm:
    """``count`` of them, of every kind."""

    address: tuple[str, int]
    count: int
    members: list[Loris] = field(default_factory=list)

    async def run(self, timeout_s: float) -> float:
        """Open all, drip a byte a second until the server has ended every one. Returns the longest time held."""
        loop = asyncio.get_running_loop()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        kinds = list(SLOW.values())
        for start in range(0, self.count, 100):
            numbers = range(start, min(start + 100, self.count))
            opened = [loop.create_connection(lambda n=n: Loris(*kinds[n % len(kinds)]), *self.address) for n in numbers]  # type: ignore[misc]
            self.members += [cast(Loris, protocol) for _, protocol in await asyncio.gather(*opened)]
        end_s = time.monotonic() + timeout_s
        while any(m.held_s is None for m in self.members) and time.monotonic() < end_s:
            for member in self.members:
                member.drip()
            await asyncio.sleep(1.0)
        still = [m for m in self.members if m.held_s is None]
        for member in still:
            member.transport.abort()
        assert not still, f"{len(still)} of {self.count} are still held"
        return max(m.held_s or 0.0 for m in self.members)
