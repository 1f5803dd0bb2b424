"""A server that answers requests with given bytes: for probes and scrapes that meet anything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")

#: Gets the writer after the head of a request was read, and answers. Returns whether the connection stays open.
Answer = Callable[[asyncio.StreamWriter], Awaitable[bool]]


def page(body: bytes, *, status: int = 200, headers: bytes = b"", delay_s: float = 0.0) -> Answer:
    """A plain answer, the connection kept alive."""

    async def answer(writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(delay_s)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), headers, body))
        await writer.drain()
        return True

    return answer


def raw(data: bytes) -> Answer:
    """Any bytes, then the end of the connection."""

    async def answer(writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        await writer.drain()
        return False

    return answer


async def silence(writer: asyncio.StreamWriter) -> bool:
    await asyncio.sleep(60)
    return False


async def flood(writer: asyncio.StreamWriter) -> bool:
    """A chunked page without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while not writer.transport.is_closing():
        writer.write(b"10000\r\n" + b"a 1\n" * 16384 + b"\r\n")
        await writer.drain()
    return False


async def drip(writer: asyncio.StreamWriter) -> bool:
    """A byte now and then: never silent, never done."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while not writer.transport.is_closing():
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.02)
    return False


@dataclass
class Pages:
    answers: dict[str, Answer]
    connections: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    requests: list[bytes] = field(default_factory=list)  # heads
    url: str = ""
    port: int = 0
    server: asyncio.Server | None = None

    def count(self, path: str) -> int:
        return sum(head.startswith(f"GET {path} ".encode()) for head in self.requests)

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self.server is not None:
            self.server.close()
            for writer in list(self.writers):
                writer.transport.abort()
            await self.server.wait_closed()
            self.server = None

    async def listen(self, port: int = 0) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                if (length := _LENGTH.search(head)) is not None:
                    await reader.readexactly(int(length[1]))
                path = head.split(b" ")[1].decode()
                if not await self.answers.get(path, page(b"", status=404))(writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()


@asynccontextmanager
async def serving(answers: dict[str, Answer]) -> AsyncIterator[Pages]:
    pages = Pages(answers)
    await pages.listen()
    try:
        yield pages
    finally:
        await pages.close()
