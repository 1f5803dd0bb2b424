"""The yardstick: what this machine charges Python for proxying, and nothing more.

    reference.py PORT BACKEND-PORT

Raw protocols on uvloop, httptools for both framings, bytes handed on as they come. The guard's baseline is a ratio to
this program: any change to it changes the unit of bench/baseline.json.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop

LISTEN, BACKEND = int(sys.argv[1]), int(sys.argv[2])


class Upstream(asyncio.Protocol):
    """A keep-alive connection to the backend."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.client: Client | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.over = False

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        client = self.client
        if client is not None:
            client.transport.write(data)
            if self.over:
                self.over = False
                self.client = client.upstream = None
                idle.append(self)

    def on_message_complete(self) -> None:
        self.over = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self in idle:
            idle.remove(self)
        if self.client is not None:
            self.client.transport.abort()


class Client(asyncio.Protocol):
    """A client's connection: one request at a time."""

    upstream: Upstream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpRequestParser(self)
        self.received: list[bytes] = []
        self.complete = False

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        self.received.append(data)
        if not self.complete:
            return
        self.complete = False
        request, self.received = b"".join(self.received), []
        if idle:
            self.send(idle.pop(), request)
        else:
            task = asyncio.get_running_loop().create_task(self.connect(request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def on_message_complete(self) -> None:
        self.complete = True

    async def connect(self, request: bytes) -> None:
        _, upstream = await asyncio.get_running_loop().create_connection(Upstream, "127.0.0.1", BACKEND)
        self.send(upstream, request)

    def send(self, upstream: Upstream, request: bytes) -> None:
        self.upstream, upstream.client = upstream, self
        upstream.transport.write(request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.upstream is not None:
            self.upstream.client = None
            self.upstream.transport.abort()


idle: list[Upstream] = []
tasks: set[asyncio.Task[None]] = set()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", LISTEN, backlog=4096)
    await server.serve_forever()


uvloop.run(main())
