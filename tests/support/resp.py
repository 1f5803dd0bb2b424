"""A port between a router and its Valkey that can fail in the ways networks, proxies and servers do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Self


class FaultyLine:
    """Passes bytes on to a server, until ``fault`` says otherwise.

    None: pass on · "reset": connections are reset, old and new · "reset later": each is reset in the middle of an answer ·
    "close": accepted and closed · "silence": accepted, nothing is said · "refuse": nobody listens · bytes: the answer
    to whatever is asked, e.g. ``b"-LOADING …\r\n"`` or what is no RESP at all.
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._fault: str | bytes | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def set(self, fault: str | bytes | None) -> None:
        """From now on, also for connections that are there: those are reset."""
        self._fault = fault
        for writer in list(self._writers):
            _reset(writer)
        if fault == "refuse":
            await self._close()
        elif self._server is None:
            await self._open()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()
        for task in list(self._tasks):
            task.cancel()
        for writer in list(self._writers):
            _reset(writer)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, RuntimeError, asyncio.CancelledError):
                await self._act(reader, writer)
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _act(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._fault
        if fault == "reset":
            _reset(writer)
        elif fault == "close":
            return
        elif fault == "silence":
            await reader.read()
        elif isinstance(fault, bytes):
            while asked := await reader.read(65536):
                for _ in range(asked.count(b"\r\n*") + asked.startswith(b"*")):
                    writer.write(fault)
        else:
            await self._pass_on(reader, writer, cut=fault == "reset later")

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, to_server))
                both.create_task(_copy(from_server, writer, cut=cut))
        except* (OSError, RuntimeError):
            pass
        finally:
            to_server.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, cut: bool = False) -> None:
    while data := await source.read(65536):
        sink.write(data[: len(data) // 2] if cut else data)
        await sink.drain()
        if cut:
            _reset(sink)
            return
    _reset(sink)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, AttributeError, ValueError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def faulty_line(server_port: int) -> AsyncIterator[FaultyLine]:
    async with FaultyLine(server_port) as line:
        yield line
